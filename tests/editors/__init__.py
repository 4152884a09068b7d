"""Real editors, headless, with the real server: `python -m tests.editors [vscode|neovim|emacs|together|all]`."""
