#include "timing.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>

namespace edgevit {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kWindow = kSecond / 5;
constexpr std::int64_t kWarmUp = 10 * kSecond;  // at most
constexpr double kSteady = 0.05;
constexpr double kMostSeconds = 60;
constexpr std::size_t kFewestRuns = 20;

double time_call(const Call& call, const Clock& clock) {
  const std::int64_t started = clock();
  call();
  return milliseconds(started, clock());
}

/** Linear between the two nearest. */
double percentile(const std::vector<double>& sorted, double p) {
  const double place = static_cast<double>(sorted.size() - 1) * p / 100;
  const auto below = static_cast<std::size_t>(place);
  const double low = sorted[below], high = sorted[std::min(below + 1, sorted.size() - 1)];
  return low + (high - low) * (place - static_cast<double>(below));
}

double median(std::vector<double> times_ms) {
  std::sort(times_ms.begin(), times_ms.end());
  return percentile(times_ms, 50);
}

/** The median of the calls of one window. */
double window_ms(const Call& call, const Clock& clock) {
  const std::int64_t end = clock() + kWindow;
  std::vector<double> times_ms;
  do {
    times_ms.push_back(time_call(call, clock));
  } while (clock() < end);
  return median(std::move(times_ms));
}

/** Whether two windows agreed before the time for it was over. */
bool warm_up(const Call& call, const Clock& clock) {
  const std::int64_t deadline = clock() + kWarmUp;
  double before = window_ms(call, clock);
  while (true) {
    const double after = window_ms(call, clock);
    if (std::abs(after - before) <= kSteady * before) return true;
    if (clock() >= deadline) return false;
    before = after;
  }
}

}  // namespace

std::int64_t monotonic() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

double milliseconds(std::int64_t from, std::int64_t to) { return static_cast<double>(to - from) / 1e6; }

Latency summary(std::vector<double> times_ms, bool steady) {
  std::sort(times_ms.begin(), times_ms.end());
  const double p50 = percentile(times_ms, 50);
  const double spread = (percentile(times_ms, 75) - percentile(times_ms, 25)) / p50;
  return {times_ms.size(), p50, percentile(times_ms, 90), percentile(times_ms, 99), times_ms.front(), spread, steady};
}

Latency time_calls(const Call& call, std::size_t runs, double seconds, const Clock& clock) {
  const bool steady = warm_up(call, clock);
  const std::int64_t started = clock();
  const auto spent = [&] { return milliseconds(started, clock()) / 1e3; };
  std::vector<double> times_ms;
  while ((times_ms.size() < runs || spent() < seconds) && (times_ms.size() < kFewestRuns || spent() < kMostSeconds)) {
    times_ms.push_back(time_call(call, clock));
  }
  return summary(std::move(times_ms), steady);
}

Sustained sustain(const Call& call, double minutes, const Clock& clock) {
  struct Timed {
    std::int64_t ended;
    double ms;
  };
  std::vector<double> first_minute;
  std::deque<Timed> last_minute;
  std::size_t calls = 0;
  const std::int64_t started = clock();
  const std::int64_t end = started + static_cast<std::int64_t>(minutes * kMinute);
  for (std::int64_t now = started; now < end; ++calls) {
    const std::int64_t begun = clock();
    call();
    now = clock();
    if (begun - started < kMinute) first_minute.push_back(milliseconds(begun, now));
    last_minute.push_back({now, milliseconds(begun, now)});
    while (last_minute.front().ended <= now - kMinute) last_minute.pop_front();
  }
  std::vector<double> last;
  for (const Timed& each : last_minute) last.push_back(each.ms);
  return {minutes, calls, median(std::move(first_minute)), median(std::move(last))};
}

}  // namespace edgevit
