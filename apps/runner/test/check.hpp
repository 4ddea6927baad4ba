/** What a test program is made of: checks that say what differs, and an exit code. */
#pragma once

#include <cmath>
#include <iostream>
#include <string>

namespace check {

inline int failures = 0;

inline void that(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::cerr << "differs: " << what << "\n";
}

/** To 1e-12, relatively. */
inline void near(double found, double wanted, const std::string& what) {
  that(std::abs(found - wanted) <= 1e-12 * std::abs(wanted),
       what + ": " + std::to_string(found) + " and not " + std::to_string(wanted));
}

}  // namespace check
