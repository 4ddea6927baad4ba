/** Pictures of 8-bit RGB pixels, and PPM, the one format that they are read from. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace edgevit {

struct Image {
  int width;
  int height;
  std::vector<std::uint8_t> pixels;  // row by row, red, green and blue of each

  std::uint8_t at(int x, int y, int channel) const {
    return pixels[(static_cast<std::size_t>(y) * width + x) * 3 + channel];
  }
};

/** A binary PPM (P6) of one picture with 8 bits a channel. Throws std::runtime_error with one sentence for any other.
 */
Image read_ppm(const std::filesystem::path& file);

}  // namespace edgevit
