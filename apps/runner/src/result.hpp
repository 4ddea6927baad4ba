/** result.json, as apps/README.md has it. */
#pragma once

#include <optional>
#include <string>

#include "answers.hpp"
#include "bundle.hpp"
#include "device.hpp"
#include "runtime.hpp"
#include "timing.hpp"

namespace edgevit {

struct Start {
  double load_ms;
  double first_ms;
};

struct Thermal {
  double before_celsius;
  double after_celsius;
};

/** What was found; what was not timed is not there. */
struct Result {
  Device device;
  Runtime runtime;
  int threads;
  Parity parity;
  std::optional<Latency> latency;
  std::optional<Start> start;
  std::optional<double> memory_mb;
  std::optional<Sustained> sustained;
  std::optional<Thermal> thermal;
};

/** The text of a result.json, created now. */
std::string to_json(const Bundle& bundle, const Result& result);

}  // namespace edgevit
