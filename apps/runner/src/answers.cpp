#include "answers.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace edgevit {
namespace {

constexpr double kMostDb = 200;  // of equal logits, because JSON has no infinity

std::size_t first_class(const std::vector<float>& logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

std::vector<double> softmax(const std::vector<float>& logits) {
  if (!std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); })) {
    throw std::runtime_error(
        "The answer is not finite: export the model again, and compare it here with --parity-only");
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> probabilities;
  for (const float logit : logits) probabilities.push_back(std::exp(logit - largest));
  const double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& probability : probabilities) probability /= sum;
  return probabilities;
}

std::vector<std::size_t> top(const std::vector<double>& probabilities, std::size_t count) {
  std::vector<std::size_t> classes(probabilities.size());
  std::iota(classes.begin(), classes.end(), 0);
  std::stable_sort(classes.begin(), classes.end(),
                   [&](std::size_t a, std::size_t b) { return probabilities[a] > probabilities[b]; });
  classes.resize(std::min(count, classes.size()));
  return classes;
}

std::optional<double> sqnr_db(const std::vector<float>& reference, const std::vector<float>& output) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double wanted = reference[i], difference = wanted - output[i];
    signal += wanted * wanted;
    noise += difference * difference;
  }
  if (signal == 0) throw std::runtime_error("The reference output is all zero: export trained weights and bundle them");
  if (!std::isfinite(noise)) return std::nullopt;
  return noise == 0 ? kMostDb : std::min(kMostDb, 10 * std::log10(signal / noise));
}

Parity compare(const std::vector<float>& reference, const std::vector<float>& output, double min_sqnr_db) {
  const std::optional<double> db = sqnr_db(reference, output);
  return {db, min_sqnr_db, db && first_class(reference) == first_class(output)};
}

}  // namespace edgevit
