-- A language server inside Neovim that answers when and what the test says.

local M = { asked = {}, cancelled = {}, commands = {}, notified = {}, replies = {} }

--- Forget the test before.
function M.reset()
  M.asked, M.cancelled, M.commands, M.notified, M.replies = {}, {}, {}, {}, {}
end

local function item_of(text, start, number)
  local command = { title = 'Accept', command = 'greencode.accept', arguments = { number } }
  return { insertText = text, range = { start = start, ['end'] = start }, command = command }
end

--- Answer the newest request, or the one of a number, with one item at its own cursor; with none without a text.
function M.answer(text, number)
  local request = M.asked[number or #M.asked]
  request.reply(nil, { items = text and { item_of(text, request.params.position, '7') } or {} })
end

--- Answer the newest request with several items.
function M.answer_several(texts)
  local request, items = M.asked[#M.asked], {}
  for index, text in ipairs(texts) do
    items[index] = item_of(text, request.params.position, tostring(index))
  end
  request.reply(nil, { items = items })
end

--- Notify the client, as the server does.
function M.notify(method, params)
  M.dispatchers.notification(method, params)
end

local function result_of(method, params)
  if method == 'initialize' then
    M.initialize = params
    return {
      capabilities = {
        positionEncoding = 'utf-16',
        textDocumentSync = { openClose = true, change = 2 },
        inlineCompletionProvider = {},
        executeCommandProvider = { commands = { 'greencode.accept' } },
      },
    }
  elseif method == 'workspace/executeCommand' then
    table.insert(M.commands, { params.command, params.arguments })
    return M.replies[params.command]
  end
  return M.replies[method]
end

--- The `cmd` of a client's configuration.
function M.start(dispatchers)
  M.dispatchers = dispatchers
  local id, is_closing = 0, false
  return {
    request = function(method, params, callback)
      id = id + 1
      if method == 'textDocument/inlineCompletion' then
        table.insert(M.asked, { id = id, params = params, reply = callback })
      else
        vim.schedule(function()
          callback(nil, result_of(method, params))
        end)
      end
      return true, id
    end,
    notify = function(method, params)
      if method == '$/cancelRequest' then
        table.insert(M.cancelled, params.id)
      else
        table.insert(M.notified, { method, params })
      end
      if method == 'exit' then
        is_closing = true
        dispatchers.on_exit(0, 15)
      end
      return true
    end,
    is_closing = function()
      return is_closing
    end,
    terminate = function()
      is_closing = true
    end,
  }
end

--- The `cmd` of another server, whose completion popup offers two words.
function M.start_words()
  local id = 0
  return {
    request = function(method, _, callback)
      id = id + 1
      local result = nil
      if method == 'initialize' then
        result = { capabilities = { completionProvider = { triggerCharacters = { '.' } } } }
      elseif method == 'textDocument/completion' then
        result = { { label = 'first_word' }, { label = 'second_word' } }
      end
      vim.schedule(function()
        callback(nil, result)
      end)
      return true, id
    end,
    notify = function()
      return true
    end,
    is_closing = function()
      return false
    end,
    terminate = function() end,
  }
end

return M
