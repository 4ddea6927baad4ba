#include "options.hpp"

#include <cmath>
#include <set>
#include <stdexcept>

namespace edgevit {
namespace {

constexpr double kMostThreads = 1024;
constexpr double kMostRuns = 1'000'000;
constexpr double kMostSeconds = 60;  // calls end after as many anyway
constexpr double kFewestMinutes = 2;
constexpr double kMostMinutes = 24 * 60;

const std::string kUsage =
    "BUNDLE_FOLDER [--threads N] [--runs N] [--seconds S] [--minutes M] [--parity-only] [--image FILE.ppm]";

[[noreturn]] void refuse(const std::string& reason) { throw std::runtime_error(reason + ", use " + kUsage); }

double number(const std::string& option, const std::string& value, double least, double most) {
  std::size_t read = 0;
  double found = NAN;
  try {
    found = std::stod(value, &read);
  } catch (const std::logic_error&) {  // no number, or one that no double holds
    read = 0;
  }
  if (read == 0 || read != value.size() || !(found >= least && found <= most)) {
    refuse(option + " takes a number from " + std::to_string(std::lround(least)) + " to " +
           std::to_string(std::lround(most)) + " and not " + value);
  }
  return found;
}

double whole(const std::string& option, const std::string& value, double most) {
  const double found = number(option, value, 1, most);
  if (found != std::floor(found)) refuse(option + " takes a whole number and not " + value);
  return found;
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  std::set<std::string> given;
  for (auto argument = arguments.begin(); argument != arguments.end(); ++argument) {
    const std::string option = *argument;
    const auto value = [&] {
      if (++argument == arguments.end()) refuse(option + " has no value");
      return *argument;
    };
    given.insert(option);
    if (option == "--threads") {
      options.threads = static_cast<int>(whole(option, value(), kMostThreads));
    } else if (option == "--runs") {
      options.runs = static_cast<std::size_t>(whole(option, value(), kMostRuns));
    } else if (option == "--seconds") {
      options.seconds = number(option, value(), 0, kMostSeconds);
    } else if (option == "--minutes") {
      options.minutes = number(option, value(), kFewestMinutes, kMostMinutes);
    } else if (option == "--parity-only") {
      options.parity_only = true;
    } else if (option == "--image") {
      options.image = value();
    } else if (option.empty() || option.front() == '-') {
      refuse("There is no option " + option);
    } else if (!options.bundle.empty()) {
      refuse("There is more than one bundle: " + option);
    } else {
      options.bundle = option;
    }
  }
  if (options.bundle.empty()) refuse("No bundle was named");
  for (const char* timed : {"--runs", "--seconds", "--minutes", "--parity-only"}) {
    if (options.image && given.count(timed) > 0)
      refuse("--image only classifies and does not go with " + std::string(timed));
  }
  return options;
}

}  // namespace edgevit
