/** How a latency is timed, as apps/README.md has it, over any call and any clock. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace edgevit {

using Call = std::function<void()>;
using Clock = std::function<std::int64_t()>;  // nanoseconds

std::int64_t monotonic();

/** Milliseconds between two readings of a clock. */
double milliseconds(std::int64_t from, std::int64_t to);

struct Latency {
  std::size_t runs;
  double p50_ms;
  double p90_ms;
  double p99_ms;
  double min_ms;
  double spread;  // (p75 - p25) / p50
  bool steady;    // whether the warm-up ended by itself
};

struct Sustained {
  double minutes;
  std::size_t calls;
  double first_minute_p50_ms;
  double last_minute_p50_ms;
};

/** Of at least one time. */
Latency summary(std::vector<double> times_ms, bool steady);

/** Warm up, then call until there are `runs` and `seconds` are over, within the contract's limits. */
Latency time_calls(const Call& call, std::size_t runs, double seconds, const Clock& clock = monotonic);

/** Call without pause for `minutes`, of which there are at least two. */
Sustained sustain(const Call& call, double minutes, const Clock& clock = monotonic);

}  // namespace edgevit
