#include "image.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace edgevit {
namespace {

// What edgevit itself refuses: a longer strip would take gigabytes once its short side is resized.
constexpr std::int64_t kMaxPixels = 64'000'000;
constexpr std::int64_t kMaxAspect = 50;

/** A number of the header, which white space and comments precede and one white space ends; -1 where none stands. */
std::int64_t header_number(std::istream& stream) {
  while (stream.peek() == '#' || std::isspace(stream.peek())) {
    if (stream.get() == '#') {
      std::string comment;
      std::getline(stream, comment);
    }
  }
  std::int64_t number = -1;
  return stream >> number && std::isspace(stream.get()) ? number : -1;
}

}  // namespace

Image read_ppm(const std::filesystem::path& file) {
  const auto refuse = [&](const std::string& reason) { throw std::runtime_error(file.string() + " " + reason); };
  std::ifstream stream(file, std::ios::binary);
  if (!stream) refuse("cannot be read: name a PPM file");
  std::string magic(2, '\0');
  stream.read(magic.data(), 2);
  if (magic != "P6") refuse("is no binary PPM: convert it, as with magick IMAGE -depth 8 image.ppm");
  const std::int64_t width = header_number(stream), height = header_number(stream), most = header_number(stream);
  if (width < 1 || height < 1 || most != 255) {
    refuse("has no PPM header of a width, a height and 255: write it with 8 bits a channel");
  }
  if (width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels) {
    refuse("has more than 64 million pixels: make it smaller");
  }
  if (std::max(width, height) > kMaxAspect * std::min(width, height)) {
    refuse("is more than 50 times as long as it is wide: crop it");
  }
  Image image{static_cast<int>(width), static_cast<int>(height), {}};
  image.pixels.assign(std::istreambuf_iterator<char>(stream), {});
  if (image.pixels.size() != static_cast<std::size_t>(width * height * 3)) {
    refuse("has not as many pixels as its header says: write it again");
  }
  return image;
}

}  // namespace edgevit
