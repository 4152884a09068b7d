--- Options with their defaults, and the client's configuration made of them.

local M = {}

---@class greencode.Options
---@field cmd? string[] The server and its arguments.
---@field filetypes? string[]
---@field settings? table The server's settings, without the leading `greencode`.
---@field keys? table<'accept'|'accept_word'|'accept_line', string|false> Insert mode keys; false maps none.
---@field popup_visible? fun(): boolean Whether a completion popup is open; nothing is suggested beside it.

---@type greencode.Options
local defaults = {
  cmd = { 'greencode-lsp', '--stdio' },
  filetypes = { 'python', 'java' },
  settings = {},
  keys = { accept = '<Tab>', accept_word = '<M-Right>', accept_line = '<M-C-Right>' },
  popup_visible = function()
    return vim.fn.pumvisible() == 1
  end,
}

---@type greencode.Options
M.options = vim.deepcopy(defaults)

---@type greencode.Options What the user gave, and nothing else.
local given = {}

---@param options greencode.Options
function M.set(options)
  for name in pairs(options) do
    if defaults[name] == nil then
      vim.notify(('greencode: there is no option %q; see :help greencode-setup'):format(name), vim.log.levels.WARN)
    end
  end
  given = options
  M.options = vim.tbl_deep_extend('force', vim.deepcopy(defaults), options)
end

--- Return what setup() lays over `lsp/greencode.lua`: only what was given, so that vim.lsp.config() still counts.
function M.overrides()
  local settings = given.settings and { greencode = given.settings } or nil
  return { cmd = given.cmd, filetypes = given.filetypes, settings = settings }
end

--- Return the client's configuration, as vim.lsp.config() and vim.lsp.start() take it.
function M.client()
  local server = require('greencode.server')
  return {
    name = 'greencode',
    cmd = M.options.cmd,
    filetypes = M.options.filetypes,
    settings = { greencode = next(M.options.settings) and M.options.settings or vim.empty_dict() }, -- {} alone is a list
    -- a server that is not told so offers its suggestion in the popup instead
    capabilities = { textDocument = { inlineCompletion = { dynamicRegistration = false } } },
    root_dir = server.root_dir,
    reuse_client = server.reuse_client,
    on_exit = server.exited,
    handlers = { ['greencode/status'] = require('greencode.status').receive },
  }
end

return M
