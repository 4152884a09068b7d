--- What differs between Neovim's versions in talking to a client.

local M = {}

M.has_inline_completion = vim.lsp.inline_completion ~= nil
local is_method = vim.fn.has('nvim-0.11') == 1

--- Call a method of a client; before Neovim 0.11 they take no self.
local function call(client, name, ...)
  if is_method then
    return client[name](client, ...)
  end
  return client[name](...)
end

---@return boolean, integer?
function M.request(client, method, params, handler, bufnr)
  return call(client, 'request', method, params, handler, bufnr)
end

function M.notify(client, method, params)
  return call(client, 'notify', method, params)
end

function M.cancel(client, request_id)
  return call(client, 'cancel_request', request_id)
end

---@return boolean
function M.is_stopped(client)
  return call(client, 'is_stopped')
end

--- Return the running server's client, if there is one.
---@param bufnr? integer Only one that is attached to this buffer.
function M.get(bufnr)
  for _, client in ipairs(vim.lsp.get_clients({ name = 'greencode', bufnr = bufnr })) do
    if not M.is_stopped(client) then
      return client
    end
  end
end

--- Return what came by JSON with nil for null; from Neovim 0.12 on it is vim.NIL in some messages.
---@param value any
function M.plain(value)
  if value == vim.NIL then
    return nil
  end
  return type(value) == 'table' and vim.tbl_map(M.plain, value) or value
end

--- Return the 0-based byte column of a position in a line.
---@param line string
---@param character integer
---@param encoding string
function M.byte_column(line, character, encoding)
  if encoding == 'utf-8' then
    return math.min(character, #line)
  end
  if is_method then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local ok, column = pcall(vim.str_byteindex, line, character, encoding == 'utf-16')
  return ok and column or #line
end

return M
