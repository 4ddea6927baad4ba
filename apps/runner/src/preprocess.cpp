#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace edgevit {
namespace {

constexpr int kFraction = 22;  // bits of a weight

enum class Side { width, height };

/** What an output sample is of: the inputs from `first` on, one for each weight. */
struct Window {
  int first;
  std::vector<std::int64_t> weights;
};

double support(Interpolation interpolation) { return interpolation == Interpolation::bilinear ? 1 : 2; }

double weight(Interpolation interpolation, double x) {
  x = std::abs(x);
  if (interpolation == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

std::int64_t fixed_point(double weight) {
  return static_cast<std::int64_t>(weight * (1 << kFraction) + (weight < 0 ? -0.5 : 0.5));
}

Window window(int output, int samples, double scale, Interpolation interpolation) {
  const double stretch = std::max(scale, 1.0);
  const double reach = stretch * support(interpolation);
  const double centre = (output + 0.5) * scale;
  const int first = std::max(0, static_cast<int>(centre - reach + 0.5));
  const int last = std::min(samples, static_cast<int>(centre + reach + 0.5));
  std::vector<double> weights;
  double sum = 0;
  for (int j = 0; j < last - first; ++j) {
    weights.push_back(weight(interpolation, (j + first - centre + 0.5) * (1 / stretch)));
    sum += weights.back();
  }
  Window window{first, {}};
  for (const double each : weights) window.weights.push_back(fixed_point(each / sum));
  return window;
}

std::uint8_t sample(const Image& image, const Window& window, Side side, int x, int y, int channel) {
  std::int64_t sum = std::int64_t{1} << (kFraction - 1);
  int place = window.first;
  for (const std::int64_t weight : window.weights) {
    sum += weight * (side == Side::width ? image.at(place, y, channel) : image.at(x, place, channel));
    ++place;
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> kFraction, 0, 255));
}

Image resample(const Image& image, Side side, int size, Interpolation interpolation) {
  const int samples = side == Side::width ? image.width : image.height;
  if (size == samples) return image;
  std::vector<Window> windows;
  for (int i = 0; i < size; ++i) {
    windows.push_back(window(i, samples, static_cast<double>(samples) / size, interpolation));
  }
  Image resampled{side == Side::width ? size : image.width, side == Side::width ? image.height : size, {}};
  resampled.pixels.reserve(std::size_t{3} * resampled.width * resampled.height);
  for (int y = 0; y < resampled.height; ++y) {
    for (int x = 0; x < resampled.width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        const Window& of = windows[side == Side::width ? x : y];
        resampled.pixels.push_back(sample(image, of, side, x, y, channel));
      }
    }
  }
  return resampled;
}

/** Halves go to the even neighbour, which is how the processor rounds unless it is told otherwise. */
int resized(int side, double scale, int crop) { return std::max(crop, static_cast<int>(std::nearbyint(side * scale))); }

}  // namespace

std::vector<float> preprocess(const Image& image, const Preprocess& how) {
  const double scale = static_cast<double>(how.resize) / std::min(image.width, image.height);
  const int width = resized(image.width, scale, how.crop), height = resized(image.height, scale, how.crop);
  const Image rows = resample(image, Side::width, width, how.interpolation);
  const Image whole = resample(rows, Side::height, height, how.interpolation);
  const int left = (width - how.crop) / 2, top = (height - how.crop) / 2;
  std::vector<float> input;
  input.reserve(std::size_t{3} * how.crop * how.crop);
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < how.crop; ++y) {
      for (int x = 0; x < how.crop; ++x) {
        const float pixel = static_cast<float>(whole.at(left + x, top + y, channel)) / 255.0F;
        input.push_back((pixel - how.mean[channel]) / how.std[channel]);
      }
    }
  }
  return input;
}

}  // namespace edgevit
