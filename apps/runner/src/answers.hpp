/** What logits say, and how near they are to others: apps/README.md has the formulas. */
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace edgevit {

/** Throws std::runtime_error where a logit is not finite. */
std::vector<double> softmax(const std::vector<float>& logits);

/** The `count` likeliest classes, or as many as there are; the lower class first where two are as likely. */
std::vector<std::size_t> top(const std::vector<double>& probabilities, std::size_t count);

/** In decibels, at most 200; nothing where `output` is not finite. Throws std::runtime_error where `reference` is 0. */
std::optional<double> sqnr_db(const std::vector<float>& reference, const std::vector<float>& output);

/** How a device's logits for the reference input compare with those of the host that exported the model. */
struct Parity {
  std::optional<double> sqnr_db;  // nothing where a logit is not finite
  double min_sqnr_db;
  bool top1_matches;

  bool holds() const { return top1_matches && sqnr_db && *sqnr_db >= min_sqnr_db; }
};

Parity compare(const std::vector<float>& reference, const std::vector<float>& output, double min_sqnr_db);

}  // namespace edgevit
