/** The command line of both programs. */
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace edgevit {

struct Options {
  std::filesystem::path bundle;
  int threads = 1;
  std::size_t runs = 480;
  double seconds = 5;
  std::optional<double> minutes;
  bool parity_only = false;
  std::optional<std::filesystem::path> image;
};

/** From the arguments after the program's name. Throws std::runtime_error with one sentence for wrong ones. */
Options parse_options(const std::vector<std::string>& arguments);

}  // namespace edgevit
