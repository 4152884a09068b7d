--- Insert mode keys. Where nothing is suggested a key does what it did before.

local api = vim.api
local M = {}

local ACTIONS = { 'accept', 'accept_word', 'accept_line', 'next', 'previous' }

local function raw(key)
  return api.nvim_replace_termcodes(key, true, true, true)
end

--- Return the mapping of a key, in the form of maparg().
local function find(mappings, key)
  for _, mapping in ipairs(mappings) do
    if mapping.lhsraw == raw(key) or mapping.lhsrawalt == raw(key) then
      return mapping
    end
  end
end

--- Do what the key does without us: the buffer's earlier mapping, else the global one, else the plain key.
---@param key string
---@param earlier? table
local function fall_back(key, earlier)
  local mapping = earlier or find(api.nvim_get_keymap('i'), key)
  if not mapping then
    api.nvim_feedkeys(raw(key), 'in', false)
    return
  end
  local plug = ('<Plug>(greencode-fallback-%s)'):format((key:gsub('[<>]', '')))
  local copy = vim.tbl_extend('force', mapping, { lhs = plug, lhsraw = raw(plug), buffer = 0 })
  copy.lhsrawalt = nil
  vim.fn.mapset('i', false, copy)
  api.nvim_feedkeys(raw(plug), 'im', false)
end

--- Map the keys in a buffer, once.
---@param bufnr integer
function M.map(bufnr)
  if vim.b[bufnr].greencode_keys then
    return
  end
  vim.b[bufnr].greencode_keys = true
  for _, action in ipairs(ACTIONS) do
    local key = require('greencode.config').options.keys[action]
    if key then
      local earlier = find(api.nvim_buf_get_keymap(bufnr, 'i'), key)
      vim.keymap.set('i', key, function()
        if not require('greencode')[action]() then
          fall_back(key, earlier)
        end
      end, { buffer = bufnr, desc = 'greencode: ' .. action:gsub('_', ' ') })
    end
  end
end

return M
