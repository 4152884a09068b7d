--- What is suggested at the cursor, one per buffer. Every answer passes here, whether Neovim's own inline completion
--- asked for it or `ghost.lua` did: stale ones are dropped, superseded requests cancelled, typed text taken off.

local api = vim.api
local lsp = require('greencode.client')

local M = {}

local METHOD = 'textDocument/inlineCompletion'
local INVOKED = 1 -- by the user
local CANCELLED = -32800

---@class greencode.Suggestion
---@field text string All that was suggested, typed or not.
---@field row integer 0-based
---@field col integer 0-based, in bytes
---@field before string The text before it in its line.
---@field after string The text that stays behind it.
---@field command? lsp.Command To be run once all of it is accepted.

---@class greencode.Buffer
---@field serial integer Of the newest request.
---@field request_id? integer Of the request that is running.
---@field client? vim.lsp.Client
---@field items? greencode.Suggestion[] All that were given for the place.
---@field index? integer Of the one that is shown.
---@field item? greencode.Suggestion
---@field send? fun(method: string, params: table, handler: function, bufnr: integer): boolean, integer?
---@field show? fun(rest?: string, command?: lsp.Command) Draws what is left to be typed, or nothing.

---@type table<integer, greencode.Buffer>
local buffers = {}

local function buffer(bufnr)
  buffers[bufnr] = buffers[bufnr] or { serial = 0 }
  return buffers[bufnr]
end

---@return integer row 0-based
---@return integer col 0-based, in bytes
local function cursor()
  local row, col = unpack(api.nvim_win_get_cursor(0))
  return row - 1, col
end

local function in_insert_mode(bufnr)
  return bufnr == api.nvim_get_current_buf() and vim.startswith(api.nvim_get_mode().mode, 'i')
end

--- Return the suggestion of an answer that was asked for at the cursor; nil where it cannot be shown as ghost text.
---@return greencode.Suggestion?
local function suggestion(item, encoding)
  local row, col = cursor()
  local line = api.nvim_get_current_line()
  local text, start, stop = item.insertText, col, col
  if item.range then
    if item.range.start.line ~= row or item.range['end'].line ~= row then
      return nil
    end
    start = lsp.byte_column(line, item.range.start.character, encoding)
    stop = lsp.byte_column(line, item.range['end'].character, encoding)
  end
  text = type(text) == 'string' and text:gsub('\r\n', '\n') or text -- a buffer's lines have no ends
  local replaced = line:sub(col + 1, stop)
  if type(text) ~= 'string' or start > col or stop < col or not vim.endswith(text, replaced) then
    return nil
  end
  text = text:sub(1, #text - #replaced)
  return {
    text = text,
    row = row,
    col = start,
    before = line:sub(1, start),
    after = line:sub(col + 1),
    command = item.command,
  }
end

--- Return what is left of the suggestion behind the cursor; nil where none fits what was typed since.
---@param bufnr integer
---@return string?
function M.rest(bufnr)
  local item = buffer(bufnr).item
  if not item or not in_insert_mode(bufnr) or require('greencode.config').options.popup_visible() then
    return nil
  end
  local row, col = cursor()
  if row < item.row or (row == item.row and col < item.col) then
    return nil
  end
  local first = api.nvim_buf_get_lines(bufnr, item.row, item.row + 1, true)[1]
  local typed = #first >= item.col
    and table.concat(api.nvim_buf_get_text(bufnr, item.row, item.col, row, col, {}), '\n')
  local is_same = first:sub(1, item.col) == item.before and api.nvim_get_current_line():sub(col + 1) == item.after
  if not is_same or not typed or #typed >= #item.text or not vim.startswith(item.text, typed) then
    return nil
  end
  return item.text:sub(#typed + 1)
end

--- Draw what is left of the suggestion, or nothing.
---@param bufnr integer
function M.show(bufnr)
  local state = buffer(bufnr)
  if state.show then
    state.show(M.rest(bufnr), state.item and state.item.command)
  end
end

--- Cancel the buffer's request, if one is running.
---@param bufnr integer
function M.cancel(bufnr)
  local state = buffer(bufnr)
  state.serial = state.serial + 1
  if state.request_id and state.client and not lsp.is_stopped(state.client) then
    lsp.cancel(state.client, state.request_id)
  end
  state.request_id = nil
end

--- Forget what was suggested and stop asking.
---@param bufnr integer
function M.clear(bufnr)
  M.cancel(bufnr)
  buffer(bufnr).item, buffer(bufnr).items, buffer(bufnr).index = nil, nil, nil
  M.show(bufnr)
end

--- Forget a buffer that is gone.
---@param bufnr integer
function M.forget(bufnr)
  if buffers[bufnr] then
    M.cancel(bufnr)
    buffers[bufnr] = nil
  end
end

--- Let another of the suggestions be shown, one that still fits; return whether there is one.
---@param bufnr integer
---@param step integer
---@return boolean
local function turn(bufnr, step)
  local state = buffer(bufnr)
  local count, before = #(state.items or {}), state.index
  for _ = 2, count do
    state.index = (state.index - 1 + step) % count + 1
    state.item = state.items[state.index]
    if M.rest(bufnr) then
      return true
    end
  end
  if before then
    state.index, state.item = before, state.items[before]
  end
  return false
end

--- Ask at the cursor of the current buffer, instead of whatever the buffer asked before.
---@param send fun(method: string, params: table, handler: function, bufnr: integer): boolean, integer?
---@param show fun(rest?: string, command?: lsp.Command)
---@param step? integer Where the user asked for another one: 1 for the next, -1 for the one before.
---@return boolean, integer?
function M.ask(client, bufnr, send, params, show, step)
  M.cancel(bufnr)
  local state = buffer(bufnr)
  state.client, state.send, state.show = client, send, show
  if not in_insert_mode(bufnr) or require('greencode.config').options.popup_visible() then
    return false
  end
  local serial, tick, row, col = state.serial, api.nvim_buf_get_changedtick(bufnr), cursor()
  local ok, request_id = send(METHOD, params, function(err, result)
    if serial ~= state.serial then
      return
    end
    state.request_id, result = nil, lsp.plain(result)
    if err and err.code ~= CANCELLED then
      vim.lsp.log.error('greencode', err.code) -- the code alone: a message may quote the text
    end
    local is_stale = not in_insert_mode(bufnr) or tick ~= api.nvim_buf_get_changedtick(bufnr)
    local row_now, col_now = cursor()
    if err or not result or is_stale or row ~= row_now or col ~= col_now then
      return
    end
    local shown = state.item and state.item.text
    state.items = {}
    for _, item in ipairs(result.items or result) do
      table.insert(state.items, suggestion(item, client.offset_encoding))
    end
    state.index, state.item = 1, state.items[1]
    if step and state.item and state.item.text == shown then
      turn(bufnr, step) -- the next one was asked for
    end
    M.show(bufnr)
  end, bufnr)
  state.request_id = ok and request_id or nil
  return ok, request_id
end

--- Show the next suggestion for the place, or the one before; the first time the server is asked for more.
---@param step integer 1 or -1
---@return boolean # false where no server has anything to do with the buffer
function M.cycle(step)
  local bufnr = api.nvim_get_current_buf()
  local state = buffer(bufnr)
  if not state.send or not state.client or lsp.is_stopped(state.client) or not in_insert_mode(bufnr) then
    return false
  end
  if state.item and M.rest(bufnr) and turn(bufnr, step) then
    M.show(bufnr)
    return true
  end
  local params = vim.lsp.util.make_position_params(0, state.client.offset_encoding)
  params.context = { triggerKind = INVOKED }
  return M.ask(state.client, bufnr, state.send, params, state.show, step)
end

local PARTS = {
  all = function(rest)
    return rest
  end,
  word = function(rest)
    return rest:match('^%s*[%w_\128-\255]+') or rest:match('^%s*[^%w_%s\128-\255]+') or rest
  end,
  line = function(rest)
    return rest:match('^\n*[^\n]+') or rest
  end,
}

--- Insert a part of the suggestion at the cursor, as an undo step of its own.
---@param part 'all'|'word'|'line'
---@return boolean # false where nothing is suggested
function M.accept(part)
  local bufnr = api.nvim_get_current_buf()
  local rest = M.rest(bufnr)
  if not rest then
    return false
  end
  local state, text = buffer(bufnr), PARTS[part](rest)
  local lines, row, col = vim.split(text, '\n', { plain = true }), cursor()
  vim.cmd('let &l:undolevels = &l:undolevels') -- ends the undo step of what was typed
  api.nvim_buf_set_text(bufnr, row, col, row, col, lines)
  api.nvim_win_set_cursor(0, { row + #lines, (#lines == 1 and col or 0) + #lines[#lines] })
  if text == rest then
    local command = state.item.command
    M.clear(bufnr)
    if command and state.client and not lsp.is_stopped(state.client) then
      local params = { command = command.command, arguments = command.arguments }
      lsp.request(state.client, 'workspace/executeCommand', params, function() end, bufnr)
    end
  end
  M.show(bufnr)
  return true
end

--- Let Neovim's own inline completion ask and draw, with its requests and answers passing here.
local function use_builtin(client, bufnr)
  if not rawget(client, 'greencode_wrapped') then
    client.greencode_wrapped = true
    local request = client.request
    client.request = function(self, method, params, handler, request_bufnr)
      if method ~= METHOD then
        return request(self, method, params, handler, request_bufnr)
      end
      local asked = request_bufnr or api.nvim_get_current_buf()
      local function send(...)
        return request(self, ...)
      end
      return M.ask(self, asked, send, params, function(rest, command)
        local items = {}
        if rest then
          local position = vim.lsp.util.make_position_params(0, self.offset_encoding).position
          items[1] = { insertText = rest, range = { start = position, ['end'] = position }, command = command }
        end
        handler(nil, { items = items }, { method = METHOD, client_id = self.id, bufnr = asked })
      end)
    end
  end
  vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
end

--- Begin to suggest in a buffer.
---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  local group = api.nvim_create_augroup('greencode.suggestion.' .. bufnr, {})
  api.nvim_create_autocmd({ 'CursorMovedI', 'TextChangedI', 'TextChangedP', 'CompleteChanged', 'CompleteDone' }, {
    group = group,
    buffer = bufnr,
    callback = function(event)
      if event.event == 'CompleteChanged' then
        vim.schedule(function() -- only then is the popup there
          M.show(bufnr)
        end)
      else
        M.show(bufnr)
      end
    end,
  })
  api.nvim_create_autocmd('InsertLeave', {
    group = group,
    buffer = bufnr,
    callback = function()
      M.clear(bufnr)
    end,
  })
  if lsp.has_inline_completion then
    use_builtin(client, bufnr)
  else
    require('greencode.ghost').attach(client, bufnr, group)
  end
  vim.defer_fn(function() -- by then Neovim's own inline completion listens too
    if in_insert_mode(bufnr) then -- what was typed while the server started
      api.nvim_exec_autocmds('CursorMovedI', { buffer = bufnr, modeline = false })
    end
  end, 0)
end

return M
