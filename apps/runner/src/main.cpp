/**
 * Runs a bundle's model here: a result.json on stdout, or the likeliest classes of a picture.
 *
 * Exit codes: 0 parity holds, 1 it does not, 2 wrong input, 130 interrupted.
 */
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "answers.hpp"
#include "bundle.hpp"
#include "device.hpp"
#include "image.hpp"
#include "options.hpp"
#include "preprocess.hpp"
#include "result.hpp"
#include "runtime.hpp"
#include "timing.hpp"

namespace {

using namespace edgevit;

constexpr int kHolds = 0, kFails = 1, kWrongInput = 2, kInterrupted = 130;
constexpr std::size_t kTop = 5;
const std::filesystem::path kRoot = "/";

void progress(const std::string& line) {
  if (isatty(STDERR_FILENO) != 0) std::cerr << line << "\n";
}

Signature signature(const Bundle& bundle) { return {bundle.input, bundle.side, bundle.classes}; }

std::size_t input_size(const Bundle& bundle) { return std::size_t{3} * bundle.side * bundle.side; }

/** The latency, and what goes with it. */
void time_model(const Call& call, const Options& options, Result& result) {
  const auto before = celsius(kRoot);
  progress("Timing: up to 70 seconds.");
  result.latency = time_calls(call, options.runs, options.seconds);
  if (options.minutes) {
    progress("Running without pause for as many minutes as were asked for.");
    result.sustained = sustain(call, *options.minutes);
  }
  const auto after = celsius(kRoot);
  if (before && after) result.thermal = Thermal{*before, *after};
}

Result measure(const Bundle& bundle, const Options& options) {
  const ModelEntry& entry = model_for(bundle, this_runtime().key, options.bundle);
  const auto input = read_floats(options.bundle / bundle.reference, input_size(bundle));
  const auto reference = read_floats(options.bundle / entry.reference, static_cast<std::size_t>(bundle.classes));
  Result result{};
  result.device = describe_device(kRoot);
  result.runtime = this_runtime();
  result.threads = options.threads;

  progress("Loading the model and comparing its answer.");
  const auto peak_before = peak_mb(kRoot);
  const auto started = monotonic();
  Model model(options.bundle / entry.path, signature(bundle), options.threads);
  const auto loaded = monotonic();
  const auto logits = model.run(input);
  const auto ran = monotonic();
  const auto peak_after = peak_mb(kRoot);
  result.parity = compare(reference, logits, entry.min_sqnr_db);

  if (options.parity_only || result.device.emulates_instructions()) return result;
  result.start = Start{milliseconds(started, loaded), milliseconds(loaded, ran)};
  if (peak_before && peak_after) result.memory_mb = *peak_after - *peak_before;
  time_model([&] { model.run(input); }, options, result);
  return result;
}

/** A line for each of the likeliest classes: probability, class, label. */
void classify(const Bundle& bundle, const Options& options) {
  const ModelEntry& entry = model_for(bundle, this_runtime().key, options.bundle);
  const auto input = preprocess(read_ppm(*options.image), bundle.preprocess);
  Model model(options.bundle / entry.path, signature(bundle), options.threads);
  const auto probabilities = softmax(model.run(input));
  for (const std::size_t found : top(probabilities, kTop)) {
    std::printf("%.4f\t%zu\t%s\n", probabilities[found], found,
                bundle.labels.empty() ? "" : bundle.labels[found].c_str());
  }
}

int run(const Options& options) {
  const Bundle bundle = read_bundle(options.bundle);
  if (options.image) {
    classify(bundle, options);
    return kHolds;
  }
  const Result result = measure(bundle, options);
  std::puts(to_json(bundle, result).c_str());
  return result.parity.holds() ? kHolds : kFails;
}

/** What a runtime says may have many lines. */
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

int main(int count, char** arguments) {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { _exit(kInterrupted); });
  try {
    const int code = run(parse_options(std::vector<std::string>(arguments + 1, arguments + count)));
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw std::runtime_error("The result cannot be written: make room where it goes");
    }
    return code;
  } catch (const std::exception& error) {
    std::cerr << "edgevit-runner-" << this_runtime().key << ": " << one_line(error.what()) << "\n";
    return kWrongInput;
  }
}
