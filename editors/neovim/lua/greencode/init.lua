--- What a user calls; `:help greencode` describes each.

local M = {}

--- Set up and enable the server for every buffer of its filetypes.
---@param options? greencode.Options
function M.setup(options)
  local config = require('greencode.config')
  config.set(options or {})
  require('greencode.server').enable(config.overrides())
end

--- Return the state and the joules saved today, in a few words; empty where no server is attached to the buffer.
---@return string
function M.statusline()
  return require('greencode.status').line(vim.api.nvim_get_current_buf())
end

--- Insert what is suggested, all of it.
---@return boolean # false where nothing is suggested: the key is still to be handled
function M.accept()
  return require('greencode.suggestion').accept('all')
end

--- Insert the next word of what is suggested.
---@return boolean
function M.accept_word()
  return require('greencode.suggestion').accept('word')
end

--- Insert the rest of the line, or the next line, of what is suggested.
---@return boolean
function M.accept_line()
  return require('greencode.suggestion').accept('line')
end

--- Show another suggestion for the place; the first time the server is asked for more than one.
---@return boolean
function M.next()
  return require('greencode.suggestion').cycle(1)
end

--- Show the suggestion before this one.
---@return boolean
function M.previous()
  return require('greencode.suggestion').cycle(-1)
end

return M
