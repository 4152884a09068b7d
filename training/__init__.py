"""Makes the checkpoints: corpus, tokenizer, LITE, rollouts, agent, calibration, evaluation. Runs from the checkout."""
