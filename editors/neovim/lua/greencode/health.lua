--- `:checkhealth greencode`.

local api = vim.api
local health = vim.health
local lsp = require('greencode.client')

local M = {}

local function check_neovim()
  health.start('greencode: Neovim')
  local version = tostring(vim.version())
  if vim.fn.has('nvim-0.10') == 0 then
    health.error(version .. ' is too old; 0.10 is the oldest that shows ghost text.')
  elseif lsp.has_inline_completion then
    health.ok(version .. ': ghost text by vim.lsp.inline_completion.')
  else
    health.ok(version .. ': ghost text by this plugin.')
  end
end

local function check_server()
  health.start('greencode: server')
  local server = require('greencode.server')
  local cmd, missing = server.config().cmd, server.missing()
  if missing then
    health.error(missing)
    return
  end
  if type(cmd) == 'table' then
    local done = vim.system({ cmd[1], '--version' }, { text = true, cwd = require('greencode.config').own_folder() }):wait(10000)
    local said = vim.trim((done.stdout or '') .. (done.stderr or ''))
    if done.code == 0 then
      health.ok(('%s: %s'):format(vim.fn.exepath(cmd[1]), said))
    else
      health.error(('%s does not run: %s'):format(cmd[1], said))
    end
  end
  local log = vim.lsp.log.get_filename and vim.lsp.log.get_filename() or vim.lsp.get_log_path()
  if server.is_broken() then
    health.error(
      'It ended by itself and stays off.',
      { '`:GreenCode resume` starts it.', 'What it said last is in ' .. log }
    )
  elseif lsp.get() then
    for _, sentence in ipairs(require('greencode.status').sentences()) do
      health.info(sentence)
    end
    health.ok('It is running.')
  else
    health.warn('It is not running.', {
      "Call require('greencode').setup() in your init.lua, and open a file of its filetypes: "
        .. table.concat(server.config().filetypes, ', '),
    })
  end
  health.info('Log: ' .. log)
end

local function check_buffers()
  health.start('greencode: buffers')
  local server = require('greencode.server')
  for _, bufnr in ipairs(api.nvim_list_bufs()) do
    if api.nvim_buf_is_loaded(bufnr) and vim.tbl_contains(server.config().filetypes, vim.bo[bufnr].filetype) then
      local name = vim.fn.fnamemodify(api.nvim_buf_get_name(bufnr), ':~:.')
      local refusal = server.refusal(bufnr)
      if lsp.get(bufnr) then
        health.ok(('%s gets suggestions.'):format(name))
      else
        health.warn(('%s gets none: %s.'):format(name, refusal or 'no server is attached to it'))
      end
      local key = require('greencode.config').options.keys.accept
      local mapping = key
        and api.nvim_buf_call(bufnr, function()
          return vim.fn.maparg(key, 'i', false, true).desc
        end)
      if key and lsp.get(bufnr) and mapping ~= 'greencode: accept' then
        health.warn(("Something else mapped %s in it later; call require('greencode').accept() there."):format(key))
      end
    end
  end
end

--- Called by `:checkhealth greencode`.
function M.check()
  check_neovim()
  check_server()
  check_buffers()
end

return M
