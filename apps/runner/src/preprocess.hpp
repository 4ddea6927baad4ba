/** From a picture to a model's input, as apps/README.md has it: equal to Pillow's and to every app's to the last bit.
 */
#pragma once

#include <array>
#include <vector>

#include "image.hpp"

namespace edgevit {

enum class Interpolation { bilinear, bicubic };

/** Resize the short side to `resize`, crop the centre `crop` square, scale to 0..1, normalise. */
struct Preprocess {
  int resize;
  int crop;
  Interpolation interpolation;
  std::array<float, 3> mean;
  std::array<float, 3> std;
};

/** `[3, crop, crop]`, channel by channel. */
std::vector<float> preprocess(const Image& image, const Preprocess& how);

}  // namespace edgevit
