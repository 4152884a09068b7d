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

--- Files of a project that Neovim runs with the option 'exrc'.
local PROJECT_FILES = { ['.nvim.lua'] = true, ['.nvimrc'] = true, ['.exrc'] = true }
--- What chooses a program or what it loads; a project has no say in it.
local MACHINE_OPTIONS = { 'cmd' }
local MACHINE_SETTINGS = { 'model', 'latencyTarget', 'device', 'precision', 'numeric' }

--- Return whether a file of a project is what calls.
---@return boolean
local function is_projects()
  for level = 2, 30 do
    local info = debug.getinfo(level, 'S')
    if not info then
      break
    elseif PROJECT_FILES[vim.fs.basename(info.source:gsub('^@', ''))] then
      return true
    end
  end
  local stack = vim.fn.expand('<stack>') -- Vim script that calls Lua
  return vim.iter(vim.gsplit(stack, '..', { plain = true })):any(function(entry)
    local file = entry:gsub('^script ', ''):gsub('%[%d+%]$', '')
    return PROJECT_FILES[vim.fs.basename(file)] ~= nil
  end)
end

--- Return a project's options without those that only the user has; these stay as the user gave them.
---@param options greencode.Options
---@return greencode.Options
local function without_machine(options)
  local dropped, taken = {}, vim.deepcopy(options)
  for _, name in ipairs(MACHINE_OPTIONS) do
    if taken[name] ~= nil then
      table.insert(dropped, name)
    end
    taken[name] = given[name]
  end
  for _, name in ipairs(MACHINE_SETTINGS) do
    local kept = given.settings and given.settings[name]
    if taken.settings and taken.settings[name] ~= nil then
      table.insert(dropped, name)
    end
    if kept ~= nil or taken.settings then
      taken.settings = taken.settings or {}
      taken.settings[name] = kept
    end
  end
  if #dropped > 0 then
    local what = table.concat(dropped, ', ')
    vim.notify(('greencode: a project does not choose %s; set it in your init.lua'):format(what), vim.log.levels.WARN)
  end
  return taken
end

--- Return a folder of the server's own, in which it is started: not the project's.
---@return string
function M.own_folder()
  local folder = vim.fn.stdpath('state') .. '/greencode'
  vim.fn.mkdir(folder, 'p', tonumber('700', 8))
  return folder
end

---@param options greencode.Options
function M.set(options)
  if is_projects() then
    options = without_machine(options)
  end
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
    cmd_cwd = M.own_folder(),
    filetypes = M.options.filetypes,
    settings = { greencode = next(M.options.settings) and M.options.settings or vim.empty_dict() }, -- {} alone is a list
    -- a server that does not know this offers its suggestion in the popup instead
    capabilities = { textDocument = { inlineCompletion = { dynamicRegistration = false } } },
    root_dir = server.root_dir,
    reuse_client = server.reuse_client,
    on_exit = server.exited,
    handlers = { ['greencode/status'] = require('greencode.status').receive },
  }
end

return M
