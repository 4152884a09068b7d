--- The energy report as text.

local M = {}

local function add(lines, key, value, indent)
  if key == 'html' then
    return
  end
  local label = indent .. tostring(key):gsub('_', ' ')
  if type(value) ~= 'table' then
    lines[#lines + 1] = ('%-32s %s'):format(
      label,
      type(value) == 'number' and ('%.6g'):format(value) or tostring(value)
    )
  elseif next(value) ~= nil then
    lines[#lines + 1] = label
    local keys = vim.tbl_keys(value)
    table.sort(keys, function(left, right)
      return tostring(left) < tostring(right)
    end)
    for _, inner in ipairs(keys) do
      add(lines, inner, value[inner], indent .. '  ')
    end
  end
end

--- Return the lines of a report; `_j` in a label means joules.
---@param scope string
---@param report table
---@return string[]
function M.lines(scope, report)
  local lines = { ('greencode-lsp: energy, %s'):format(scope), '' }
  for _, key in ipairs(vim.fn.sort(vim.tbl_keys(report))) do
    add(lines, key, report[key], '')
  end
  return lines
end

return M
