-- Read by `vim.lsp.enable('greencode')` on Neovim 0.11 and newer.
return require('greencode.config').client()
