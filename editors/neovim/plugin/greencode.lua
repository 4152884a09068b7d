if vim.g.loaded_greencode then
  return
end
vim.g.loaded_greencode = true

vim.api.nvim_create_user_command('GreenCode', function(command)
  require('greencode.command').run(command.fargs)
end, {
  nargs = '*',
  desc = 'Preference, pause, resume, report and doctor of greencode-lsp',
  complete = function(lead, line)
    return require('greencode.command').complete(lead, line)
  end,
})

-- here and not in setup(), so that `vim.lsp.enable('greencode')` alone is enough
local group = vim.api.nvim_create_augroup('greencode', {})
vim.api.nvim_create_autocmd('FileType', {
  group = group,
  callback = function(event)
    if package.loaded['greencode.config'] then -- nothing is loaded for who does not use it
      require('greencode.server').opened(event.buf)
    end
  end,
})
vim.api.nvim_create_autocmd('LspAttach', {
  group = group,
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == 'greencode' then
      require('greencode.server').attached(client, event.buf)
    end
  end,
})
vim.api.nvim_create_autocmd('BufEnter', {
  group = group,
  callback = function(event)
    if package.loaded['greencode.server'] then
      require('greencode.server').entered(event.buf)
    end
  end,
})
vim.api.nvim_create_autocmd({ 'BufDelete', 'BufWipeout' }, {
  group = group,
  callback = function(event)
    if package.loaded['greencode.suggestion'] then
      require('greencode.suggestion').forget(event.buf)
    end
  end,
})
