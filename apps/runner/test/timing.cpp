/** The timing protocol, on a clock that calls move. */
#include "timing.hpp"

#include "check.hpp"

namespace {

using namespace edgevit;

constexpr std::int64_t kMillisecond = 1'000'000;

/** A clock, and calls that take what `next_ms` says of the time and of how many there were before. */
struct Simulated {
  std::function<double(const Simulated&)> next_ms;
  std::int64_t now = 0;
  std::size_t calls = 0;

  Call call() {
    return [this] {
      now += static_cast<std::int64_t>(next_ms(*this) * kMillisecond);
      ++calls;
    };
  }
  Clock clock() {
    return [this] { return now; };
  }
};

void until_there_are_runs_and_seconds() {
  Simulated steady{[](const Simulated&) { return 1.0; }};
  const Latency many = time_calls(steady.call(), 480, 0, steady.clock());
  check::that(many.runs == 480 && many.steady && many.p50_ms == 1 && many.spread == 0, "480 calls of 1 ms");
  check::that(steady.calls == 480 + 400, "two windows of warm-up: " + std::to_string(steady.calls));

  Simulated longer{[](const Simulated&) { return 1.0; }};
  check::that(time_calls(longer.call(), 480, 5, longer.clock()).runs == 5000, "5 seconds of calls of 1 ms");
}

void slow_calls_end() {
  Simulated slow{[](const Simulated&) { return 500.0; }};
  check::that(time_calls(slow.call(), 480, 5, slow.clock()).runs == 120, "60 seconds of calls of 500 ms");
  Simulated slower{[](const Simulated&) { return 7000.0; }};
  check::that(time_calls(slower.call(), 480, 5, slower.clock()).runs == 20, "20 calls of 7 s");
}

void warm_up_waits() {
  Simulated settling{[](const Simulated& past) { return past.calls < 50 ? 4.0 : past.calls < 150 ? 3.0 : 2.0; }};
  const Latency latency = time_calls(settling.call(), 20, 0, settling.clock());
  check::that(latency.steady && latency.p90_ms == 2, "a warm-up that goes on while windows differ");

  Simulated restless{[](const Simulated& past) { return past.now / (200 * kMillisecond) % 2 == 0 ? 1.0 : 2.0; }};
  const Latency unsteady = time_calls(restless.call(), 20, 0, restless.clock());
  check::that(!unsteady.steady, "a warm-up that never ends by itself");
  check::that(restless.now > 10'000 * kMillisecond && restless.now < 11'000 * kMillisecond, "its limit of 10 s");
}

void minutes_are_compared() {
  Simulated heating{[](const Simulated& past) { return past.now < 90'000 * kMillisecond ? 10.0 : 20.0; }};
  const Sustained found = sustain(heating.call(), 3, heating.clock());
  check::that(found.minutes == 3 && found.calls == 9000 + 4500, "calls of 3 minutes: " + std::to_string(found.calls));
  check::that(found.first_minute_p50_ms == 10 && found.last_minute_p50_ms == 20, "the first minute and the last");

  Simulated slow{[](const Simulated& past) { return past.calls == 0 ? 100'000.0 : 70'000.0; }};
  const Sustained rare = sustain(slow.call(), 2, slow.clock());
  check::that(rare.calls == 2 && rare.first_minute_p50_ms == 100'000 && rare.last_minute_p50_ms == 70'000,
              "long calls");
}

}  // namespace

int main() {
  until_there_are_runs_and_seconds();
  slow_calls_end();
  warm_up_waits();
  minutes_are_compared();
  return check::failures == 0 ? 0 : 1;
}
