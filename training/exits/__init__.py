"""When to exit: rollouts, the agent's environment, rewards, PPO, probe and baselines."""
