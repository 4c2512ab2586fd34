-- For wrk: one text a request, as OpenAI's clients send it.
--   wrk -t1 -c64 -d10s --latency -s examples/server/load.lua http://127.0.0.1:8080 -- MODEL FILE
local lines, model, at = {}, nil, 0

function init(args)
  model = assert(args[1], "the model's name")
  for line in io.lines(assert(args[2], "a file of texts")) do
    if #line > 0 then
      lines[#lines + 1] = line:gsub('[\\"]', "\\%0"):gsub("%c", " ")
    end
  end
end

function request()
  at = at % #lines + 1
  local body = '{"model":"%s","encoding_format":"base64","input":"%s"}'
  local headers = { ["content-type"] = "application/json" }
  return wrk.format("POST", "/v1/embeddings", headers, body:format(model, lines[at]))
end
