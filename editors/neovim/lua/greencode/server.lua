--- The server's life: which buffers get it, what happens when it is missing or ends.

local api = vim.api
local lsp = require('greencode.client')

local M = {}

local LARGEST_FILE_BYTES = 5 * 1000 * 1000
local ROOT_MARKERS = { '.git', 'pyproject.toml', 'setup.py', 'pom.xml', 'build.gradle', 'build.gradle.kts' }
local RESTART_INTERVAL_S = 60

--- What the user wished for since Neovim was started; a server that had to be started again is sent them again.
---@type { preference?: string|number, is_paused?: boolean }
M.wishes = {}

local enabled = false
local is_broken = false
local restarted_at_s = -math.huge
local shown = {}

--- Tell the user a sentence, once.
---@param sentence string
local function notify_once(sentence)
  if not shown[sentence] then
    shown[sentence] = true
    vim.notify('greencode: ' .. sentence, vim.log.levels.WARN)
  end
end

--- Whether the server ended by itself and is not started again until `:GreenCode resume`.
---@return boolean
function M.is_broken()
  return is_broken
end

--- Return the client's configuration, with what the user laid over it.
function M.config()
  return vim.lsp.config and vim.lsp.config.greencode or require('greencode.config').client()
end

--- Return how to install the server; where this plugin lies in a clone of the repository, the very command.
---@return string
function M.how_to_install()
  local plugin = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h:h')
  local clone = vim.fs.dirname(vim.fs.dirname(plugin))
  local what = vim.uv.fs_stat(clone .. '/pyproject.toml') and clone or 'greencode-lsp'
  return ("install it with `pip install %s` into an environment on your PATH, or name it in require('greencode').setup({ cmd = { … } })"):format(
    what
  )
end

--- Return why a buffer gets no suggestions; nil where it does.
---@param bufnr integer
---@return string?
function M.refusal(bufnr)
  local bo = vim.bo[bufnr]
  if bo.buftype ~= '' then
    return 'it is not a file'
  elseif bo.readonly or not bo.modifiable then
    return 'it cannot be changed'
  elseif api.nvim_buf_get_name(bufnr):match('^%a[%w+.-]+://') then
    return 'it is not on this machine'
  elseif api.nvim_buf_get_offset(bufnr, api.nvim_buf_line_count(bufnr)) > LARGEST_FILE_BYTES then
    return 'it is larger than 5 MB'
  end
end

--- Return why the server cannot be started: it is not there. Nil where it is.
---@return string?
function M.missing()
  local cmd = M.config().cmd
  if type(cmd) == 'table' and cmd[1]:find('[/\\]') and not vim.startswith(vim.fn.expand(cmd[1]), '/') and not cmd[1]:find('^%a:') then
    return ('cmd names %s, which is relative to whatever folder is current; write its whole path.'):format(cmd[1])
  end
  if type(cmd) == 'table' and vim.fn.executable(cmd[1]) == 0 then
    return ('%s was not found; %s.'):format(cmd[1], M.how_to_install())
  end
end

--- A buffer has a filetype: say that the server is missing where it was to be started. Neovim itself only logs it.
---@param bufnr integer
function M.opened(bufnr)
  local is_enabled = enabled or (vim.lsp.is_enabled and vim.lsp.is_enabled('greencode'))
  if is_enabled and vim.tbl_contains(M.config().filetypes, vim.bo[bufnr].filetype) and not M.refusal(bufnr) then
    local missing = M.missing()
    if missing then
      notify_once(missing)
    end
  end
end

--- The configuration's root_dir: calls back only where the server is to be started for the buffer.
---@param bufnr integer
---@param start fun(root?: string)
function M.root_dir(bufnr, start)
  if not is_broken and not M.refusal(bufnr) and not M.missing() then
    start(vim.fs.root(bufnr, ROOT_MARKERS))
  end
end

--- One server, with one model in memory, for all projects.
function M.reuse_client(client, config)
  return client.name == config.name and not lsp.is_stopped(client)
end

--- Start the server for a buffer, unless it has one.
local function start(bufnr)
  local config = vim.deepcopy(M.config())
  if not api.nvim_buf_is_loaded(bufnr) or not vim.tbl_contains(config.filetypes, vim.bo[bufnr].filetype) then
    return
  end
  config.root_dir(bufnr, function(root)
    config.root_dir = root
    vim.lsp.start(config, { bufnr = bufnr, reuse_client = config.reuse_client })
  end)
end

--- Start the server for all buffers of its filetypes; also after it ended by itself.
function M.start()
  is_broken = false
  vim.iter(api.nvim_list_bufs()):each(start)
end

--- Start the server for every buffer of its filetypes, now and later.
---@param overrides table What setup() was given.
function M.enable(overrides)
  enabled = true
  if vim.lsp.enable then
    vim.lsp.config('greencode', overrides)
    vim.lsp.enable('greencode')
    return
  end
  api.nvim_create_autocmd('FileType', {
    group = api.nvim_create_augroup('greencode.enable', {}),
    callback = function(event)
      start(event.buf)
    end,
  })
  M.start()
end

--- The configuration's on_exit. A server that had been ready is started again, once a minute at most; one that
--- ends before is not. Neovim itself reports a bad end, and where its log is.
function M.exited(code, signal)
  local status = require('greencode.status')
  local last = status.last
  status.last = nil
  local is_clean = code == 0 and (signal == 0 or signal == 15)
  if vim.v.exiting ~= vim.NIL or (last and is_clean) then
    return
  end
  local now_s = vim.uv.now() / 1000
  is_broken = not last or last.state == 'loading' or now_s - restarted_at_s < RESTART_INTERVAL_S
  vim.schedule(function()
    if not is_broken then
      restarted_at_s = now_s
      vim.defer_fn(M.start, 100) -- Neovim forgets the ended client in its own time
      return
    end
    if is_clean then
      notify_once('the server ended at once; :checkhealth greencode says more.')
    end
    vim.cmd('redrawstatus!')
  end)
end

--- Let the server know of a further project, for the settings that a folder may have of its own.
local function add_folder(client, bufnr)
  local root = vim.fs.root(bufnr, ROOT_MARKERS)
  local folders = client.workspace_folders or {}
  local is_known = vim.iter(folders):any(function(folder)
    return folder.uri == vim.uri_from_fname(root)
  end)
  if root and not is_known then
    local folder = { uri = vim.uri_from_fname(root), name = root }
    client.workspace_folders = vim.list_extend(vim.list_slice(folders), { folder })
    lsp.notify(client, 'workspace/didChangeWorkspaceFolders', { event = { added = { folder }, removed = {} } })
  end
end

--- A client was attached to a buffer.
---@param client vim.lsp.Client
---@param bufnr integer
function M.attached(client, bufnr)
  if not client.greencode_told then
    client.greencode_told = true
    if M.wishes.preference then
      M.execute('greencode.setPreference', { M.wishes.preference })
    end
    if M.wishes.is_paused then
      M.execute('greencode.pause', {})
    end
  end
  add_folder(client, bufnr)
  require('greencode.suggestion').attach(client, bufnr)
  require('greencode.keys').map(bufnr)
end

--- The user has turned to a buffer: the server may read it in advance.
---@param bufnr integer
function M.entered(bufnr)
  local client = lsp.get(bufnr)
  if client then
    lsp.notify(client, 'textDocument/didFocus', { textDocument = { uri = vim.uri_from_bufnr(bufnr) } })
  end
end

--- Send a request to the server; whatever goes wrong is reported in one sentence.
---@param method string
---@param params table
---@param done? fun(result: any)
function M.request(method, params, done)
  local client = lsp.get()
  if not client then
    vim.notify(
      'greencode: no server is running; open a file of its filetypes, or see :checkhealth greencode',
      vim.log.levels.WARN
    )
    return
  end
  lsp.request(client, method, params, function(err, result)
    if err then
      local what = params.command or method
      vim.notify(('greencode: the server does not do %s (%s)'):format(what, err.message), vim.log.levels.WARN)
    elseif done then
      done(lsp.plain(result))
    end
  end)
end

--- Run one of the server's commands.
---@param command string
---@param arguments any[]
---@param done? fun(result: any)
function M.execute(command, arguments, done)
  M.request('workspace/executeCommand', { command = command, arguments = arguments }, done)
end

return M
