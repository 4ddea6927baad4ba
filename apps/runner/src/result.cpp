#include "result.hpp"

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

namespace edgevit {
namespace {

using json = nlohmann::ordered_json;

constexpr int kSchema = 1;

json to_json(const Device& device);
json to_json(const Latency& latency);
json to_json(const Start& start);
json to_json(const Sustained& sustained);
json to_json(const Thermal& thermal);
json to_json(const std::string& text) { return text; }
json to_json(double number) { return number; }

template <typename Value>
json or_null(const std::optional<Value>& value) {
  return value ? to_json(*value) : json(nullptr);
}

json to_json(const Device& device) {
  return {{"name", or_null(device.name)}, {"os", or_null(device.os)}, {"soc", or_null(device.soc)},
          {"arch", or_null(device.arch)}, {"cores", device.cores},    {"emulated", or_null(device.emulated)}};
}

json to_json(const Runtime& runtime) {
  return {{"name", runtime.name}, {"version", runtime.version}, {"delegate", runtime.delegate}};
}

json to_json(const Parity& parity) {
  return {{"sqnr_db", or_null(parity.sqnr_db)},
          {"min_sqnr_db", parity.min_sqnr_db},
          {"top1_matches", parity.top1_matches},
          {"holds", parity.holds()}};
}

json to_json(const Latency& latency) {
  return {{"runs", latency.runs},     {"p50_ms", latency.p50_ms}, {"p90_ms", latency.p90_ms},
          {"p99_ms", latency.p99_ms}, {"min_ms", latency.min_ms}, {"spread", latency.spread},
          {"steady", latency.steady}};
}

json to_json(const Start& start) { return {{"load_ms", start.load_ms}, {"first_ms", start.first_ms}}; }

json to_json(const Sustained& sustained) {
  return {{"minutes", sustained.minutes},
          {"calls", sustained.calls},
          {"first_minute_p50_ms", sustained.first_minute_p50_ms},
          {"last_minute_p50_ms", sustained.last_minute_p50_ms}};
}

json to_json(const Thermal& thermal) {
  return {{"before", {{"celsius", thermal.before_celsius}}}, {"after", {{"celsius", thermal.after_celsius}}}};
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

}  // namespace

std::string to_json(const Bundle& bundle, const Result& result) {
  const json whole = {{"schema", kSchema},
                      {"edgevit", bundle.edgevit},
                      {"export_sha256", bundle.export_sha256},
                      {"model", bundle.model},
                      {"quant", bundle.quant},
                      {"created", now()},
                      {"app", "runner"},
                      {"device", to_json(result.device)},
                      {"runtime", to_json(result.runtime)},
                      {"threads", result.threads},
                      {"parity", to_json(result.parity)},
                      {"latency", or_null(result.latency)},
                      {"start", or_null(result.start)},
                      {"memory_mb", or_null(result.memory_mb)},
                      {"sustained", or_null(result.sustained)},
                      {"thermal", or_null(result.thermal)}};
  // A board may name itself in bytes that are no UTF-8.
  return whole.dump(2, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

}  // namespace edgevit
