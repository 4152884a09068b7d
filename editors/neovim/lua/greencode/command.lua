--- `:GreenCode`.

local server = require('greencode.server')
local status = require('greencode.status')

local M = {}

local NAMES = { 'accuracy', 'balanced', 'energy' }
local SCOPES = { 'today', 'week', 'all' }

--- Open a read-only page in a split.
---@param title string
---@param lines string[]
---@return integer # the page's buffer
local function open_page(title, lines)
  vim.cmd('botright new')
  local bufnr = vim.api.nvim_get_current_buf()
  vim.bo[bufnr].buftype, vim.bo[bufnr].bufhidden, vim.bo[bufnr].swapfile = 'nofile', 'wipe', false
  pcall(vim.api.nvim_buf_set_name, bufnr, title)
  vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = bufnr, desc = 'Close' })
  M.fill_page(bufnr, lines)
  return bufnr
end

--- Write a page's text.
function M.fill_page(bufnr, lines)
  if vim.api.nvim_buf_is_valid(bufnr) then
    vim.bo[bufnr].modifiable = true
    vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, lines)
    vim.bo[bufnr].modifiable = false
    for _, window in ipairs(vim.fn.win_findbuf(bufnr)) do
      vim.api.nvim_win_set_height(window, math.min(#lines + 1, math.floor(vim.o.lines / 2)))
    end
  end
end

--- Set the preference for this session.
---@param value string|number
local function prefer(value)
  server.execute('greencode.setPreference', { value }, function(accepted)
    if accepted ~= nil then
      server.wishes.preference = value
    end
  end)
end

--- Let the user choose, with what each choice costs on this device.
local function choose_preference()
  local choices = status.last and status.last.choices or {}
  if #choices == 0 then
    choices = vim.tbl_map(function(name)
      return { name = name }
    end, NAMES)
  end
  vim.ui.select(choices, {
    prompt = 'greencode: preference',
    format_item = function(choice)
      if not choice.cost_ratio then
        return choice.name
      end
      return ('%s: %.0f %% of the cost of full depth, %.1f %% of its tokens'):format(
        choice.name,
        choice.cost_ratio * 100,
        choice.agreement * 100
      )
    end,
  }, function(choice)
    if choice then
      prefer(choice.name)
    end
  end)
end

--- Stop or go on, also after a server that ended by itself is started again.
local function set_paused(is_paused)
  server.wishes.is_paused = is_paused or nil
  if not is_paused and server.is_broken() then
    server.start()
  else
    server.execute(is_paused and 'greencode.pause' or 'greencode.resume', {})
  end
end

--- Run the server's program with other arguments, and show what it prints.
---@param title string
---@param arguments string[]
local function show_output(title, arguments)
  local missing = server.missing()
  if missing then
    vim.notify('greencode: ' .. missing, vim.log.levels.WARN)
    return
  end
  local cmd = server.config().cmd
  local command = vim.tbl_filter(function(word)
    return word ~= '--stdio'
  end, type(cmd) == 'table' and cmd or { 'greencode-lsp' })
  vim.list_extend(command, arguments)
  local bufnr = open_page(title, { table.concat(command, ' ') .. ' …' })
  vim.system(
    command,
    { text = true, cwd = require('greencode.config').own_folder() },
    vim.schedule_wrap(function(done)
      M.fill_page(bufnr, vim.split(vim.trim(done.stdout .. done.stderr), '\n', { plain = true }))
    end)
  )
end

--- Show the energy report: as text, or as the server's page in the browser.
local function report(first, second)
  local is_page = first == 'html'
  local scope = (is_page and second or first) or 'today'
  if not is_page then
    local intensity = vim.tbl_get(server.config().settings, 'greencode', 'energy', 'carbonIntensity')
    local option = intensity and { '--carbon-intensity', tostring(intensity) } or {}
    show_output('greencode://report', vim.list_extend({ 'energy', scope }, option))
    return
  end
  server.request('greencode/report', { scope = scope, format = 'html' }, function(result)
    if not result then
      return -- the server has said why
    end
    local file = vim.fn.tempname() .. '.html'
    vim.fn.writefile(vim.split(result.html, '\n', { plain = true }), file)
    local _, problem = vim.ui.open(file)
    if problem then
      vim.notify(('greencode: the report is in %s (%s)'):format(file, problem), vim.log.levels.WARN)
    end
  end)
end

--- Show what the server's own doctor finds.
local function doctor()
  show_output('greencode://doctor', { 'doctor' })
end

--- Pull a model: the one named, or one chosen among those the server offers. It reports the result.
---@param name string?
local function pull(name)
  if name then
    server.execute('greencode.pullModel', { name })
    return
  end
  server.execute('greencode.models', {}, function(offers)
    vim.ui.select(offers and offers.models or {}, {
      prompt = 'greencode: get a model',
      format_item = function(model)
        local note = model.is_here and ', is here' or model.fits and '' or ', needs more memory'
        return ('%s: %.1f GB to download, %.1f GB of memory, %s%s'):format(
          model.name,
          model.size_bytes / 1e9,
          model.memory_bytes / 1e9,
          model.licence,
          note
        )
      end,
    }, function(model)
      if model then
        pull(model.name)
      end
    end)
  end)
end

local ACTIONS = {
  preference = function(value)
    if value then
      prefer(tonumber(value) or value)
    else
      choose_preference()
    end
  end,
  pause = function()
    set_paused(true)
  end,
  pull = pull,
  resume = function()
    set_paused(false)
  end,
  report = report,
  doctor = doctor,
}

local ARGUMENTS = { preference = NAMES, report = vim.list_extend({ 'html' }, SCOPES) }

--- Run `:GreenCode WORD…`; without a word, show the state.
---@param words string[]
function M.run(words)
  if #words == 0 then
    vim.notify('greencode: ' .. table.concat(status.sentences(), ' '), vim.log.levels.INFO)
    return
  end
  local action = ACTIONS[words[1]]
  if not action then
    local names = table.concat(vim.fn.sort(vim.tbl_keys(ACTIONS)), ', ')
    vim.notify(('greencode: there is no %q; there are %s'):format(words[1], names), vim.log.levels.WARN)
    return
  end
  action(words[2], words[3])
end

--- Return what may stand where the cursor is.
---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.split(vim.trim(line:sub(1, #line - #lead)), '%s+')
  local candidates = #words == 1 and vim.fn.sort(vim.tbl_keys(ACTIONS)) or ARGUMENTS[words[2]] or {}
  return vim.tbl_filter(function(candidate)
    return vim.startswith(candidate, lead)
  end, candidates)
end

return M
