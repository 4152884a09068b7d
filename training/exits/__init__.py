"""When to exit: rollouts, environment, rewards, PPO, probe, baselines; exits and shortlists of frozen public models."""
