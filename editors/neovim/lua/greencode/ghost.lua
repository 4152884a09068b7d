--- Ghost text for Neovim 0.10 and 0.11, which have no inline completion of their own.

local api = vim.api
local lsp = require('greencode.client')
local suggestion = require('greencode.suggestion')

local M = {}

local DEBOUNCE_MS = 50
local namespace = api.nvim_create_namespace('greencode.ghost')

--- Draw a text behind the cursor, or take away what was drawn.
---@param bufnr integer
---@param text? string
local function draw(bufnr, text)
  api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
  if not text then
    return
  end
  local spaces = (' '):rep(vim.bo[bufnr].tabstop)
  local lines = vim.tbl_map(function(line)
    return { { (line:gsub('\t', spaces)), 'ComplHint' } }
  end, vim.split(text, '\n', { plain = true }))
  local row, col = unpack(api.nvim_win_get_cursor(0))
  api.nvim_buf_set_extmark(bufnr, namespace, row - 1, col, {
    virt_text = lines[1],
    virt_text_pos = 'inline',
    virt_lines = vim.list_slice(lines, 2),
    hl_mode = 'combine',
  })
end

local function ask(client, bufnr)
  if lsp.is_stopped(client) or bufnr ~= api.nvim_get_current_buf() or suggestion.rest(bufnr) then
    return -- what fits what was typed since is still the server's answer
  end
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = 2 } -- automatic
  local function send(...)
    return lsp.request(client, ...)
  end
  suggestion.ask(client, bufnr, send, params, function(rest)
    if api.nvim_buf_is_valid(bufnr) then
      draw(bufnr, rest)
    end
  end)
end

--- Ask a moment after each keystroke.
---@param client vim.lsp.Client
---@param bufnr integer
---@param group integer
function M.attach(client, bufnr, group)
  api.nvim_set_hl(0, 'ComplHint', { default = true, link = 'Comment' }) -- Neovim's own name for it from 0.12 on
  local timer = assert(vim.uv.new_timer())
  api.nvim_create_autocmd({ 'InsertEnter', 'CursorMovedI', 'CompleteDone' }, {
    group = group,
    buffer = bufnr,
    callback = function()
      timer:start(
        DEBOUNCE_MS,
        0,
        vim.schedule_wrap(function()
          ask(client, bufnr)
        end)
      )
    end,
  })
  api.nvim_create_autocmd('InsertLeave', {
    group = group,
    buffer = bufnr,
    callback = function()
      timer:stop()
    end,
  })
end

return M
