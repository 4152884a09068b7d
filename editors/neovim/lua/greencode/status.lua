--- What the server reported last about itself (`greencode/status`), in words.

local M = {}

---@type table? The notification's params; older servers leave keys out.
M.last = nil

--- The handler of `greencode/status`.
function M.receive(_, params)
  M.last = require('greencode.client').plain(params)
  vim.api.nvim_exec_autocmds('User', { pattern = 'GreenCodeStatus', modeline = false })
  vim.cmd('redrawstatus!')
end

---@param joules number
---@return string
function M.joules(joules)
  local size = math.abs(joules)
  if size >= 1000 then
    return ('%.1f kJ'):format(joules / 1000)
  end
  return (size >= 100 and '%.0f J' or size >= 10 and '%.1f J' or '%.2f J'):format(joules)
end

--- Return the statusline's text.
---@param bufnr integer
---@return string
function M.line(bufnr)
  if require('greencode.server').is_broken() then
    return 'greencode stopped'
  end
  if not require('greencode.client').get(bufnr) then
    return ''
  end
  local status = M.last
  if not status or status.state ~= 'ready' then
    return 'greencode ' .. (status and status.state or 'starting')
  end
  local saved = vim.tbl_get(status, 'today', 'saved_j')
  return saved and ('greencode ~%s saved today'):format(M.joules(saved)) or 'greencode'
end

--- Return the state as sentences, for :GreenCode and :checkhealth.
---@return string[]
function M.sentences()
  local status = M.last
  if not status then
    return { 'The server has not reported its state yet.' }
  end
  local device = status.device and (' on ' .. status.device) or ''
  local power = status.power and status.power ~= 'unknown' and (', %s power'):format(status.power) or ''
  local sentences = {
    ('State %s, model %s%s, preference %s%s.'):format(status.state, status.model, device, status.preference, power),
  }
  if status.reason then
    sentences[#sentences + 1] = status.reason
  end
  local last, today = status.last, status.today
  if last then
    sentences[#sentences + 1] = ('Last completion: %s (%s), %.0f ms.'):format(
      M.joules(last.energy_j),
      last.energy_tier,
      last.elapsed_ms
    )
  end
  if today then
    local tier = today.energy_tier and (' (%s)'):format(today.energy_tier) or ''
    sentences[#sentences + 1] = ('Today: %s used%s, %s saved against full depth (modelled).'):format(
      M.joules(today.energy_j),
      tier,
      M.joules(today.saved_j)
    )
  end
  return sentences
end

return M
