#include "bundle.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace edgevit {
namespace {

using nlohmann::json;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are read as they lie in their files");

constexpr int kSchema = 1;
constexpr int kMostClasses = 1'000'000;
constexpr int kMostPixels = 4096;  // a side

[[noreturn]] void refuse(const std::string& reason) {
  throw std::runtime_error("bundle.json " + reason + ": write the bundle again with edgevit bundle");
}

const json& field(const json& object, const std::string& name) {
  if (!object.is_object() || !object.contains(name)) refuse("has no field " + name + " where one belongs");
  return object[name];
}

std::string text(const json& object, const std::string& name) {
  const json& value = field(object, name);
  if (!value.is_string()) refuse("has a field " + name + " that is no text");
  return value.get<std::string>();
}

double number(const json& value, const std::string& name) {
  if (!value.is_number()) refuse("has a " + name + " that is no number");
  return value.get<double>();
}

int whole(const json& value, const std::string& name, int most) {
  const double found = number(value, name);
  if (found != std::floor(found) || found < 1 || found > most) {
    refuse("has a " + name + " that is no whole number from 1 to " + std::to_string(most));
  }
  return static_cast<int>(found);
}

std::array<float, 3> triple(const json& how, const std::string& name) {
  const json& values = field(how, name);
  if (!values.is_array() || values.size() != 3) refuse("has a mean or std that has not three numbers");
  std::array<float, 3> numbers{};
  std::transform(values.begin(), values.end(), numbers.begin(),
                 [&](const json& value) { return static_cast<float>(number(value, name)); });
  return numbers;
}

Interpolation interpolation(const json& how) {
  const std::string name = text(how, "interpolation");
  if (name == "bilinear") return Interpolation::bilinear;
  if (name == "bicubic") return Interpolation::bicubic;
  refuse("has an interpolation that is neither bilinear nor bicubic");
}

Preprocess preprocess(const json& how, int side) {
  const int resize = whole(field(how, "resize"), "resize", kMostPixels),
            crop = whole(field(how, "crop"), "crop", kMostPixels);
  if (crop != side) refuse("has a crop of " + std::to_string(crop) + " and an input of " + std::to_string(side));
  if (resize < crop) refuse("has a resize that is less than its crop");
  const Preprocess read{resize, crop, interpolation(how), triple(how, "mean"), triple(how, "std")};
  if (std::count(read.std.begin(), read.std.end(), 0.0F) > 0) refuse("has a std of 0");
  return read;
}

int side_of(const json& shape) {
  if (!shape.is_array() || shape.size() != 4) refuse("has an input whose shape is not [1, 3, S, S]");
  const int side = whole(shape[3], "shape", kMostPixels);
  if (shape != json{1, 3, side, side}) refuse("has an input whose shape is not [1, 3, S, S]");
  return side;
}

std::vector<std::string> labels(const json& names, int classes) {
  if (names.is_null()) return {};
  const auto is_text = [](const json& name) { return name.is_string(); };
  if (!names.is_array() || names.size() != static_cast<std::size_t>(classes) ||
      !std::all_of(names.begin(), names.end(), is_text)) {
    refuse("has labels that are not one text for each of its " + std::to_string(classes) + " classes");
  }
  return names.get<std::vector<std::string>>();
}

/** The text of a field that names a file, if that lies in the bundle's folder. */
std::string inside(const std::string& name) {
  std::istringstream steps(name + "/");
  bool stays = true;
  for (std::string step; std::getline(steps, step, '/');) {
    stays = stays && !step.empty() && step != "." && step != "..";
  }
  if (!stays) refuse("has a path \"" + name + "\" that leaves the bundle");
  return name;
}

ModelEntry model(const json& entry) {
  const json& files = field(entry, "files");
  const json& bytes = field(entry, "bytes");
  if (!files.is_object()) refuse("has files of a model that are no digests by path");
  if (!bytes.is_number_unsigned()) refuse("has bytes of a model that are no count");
  ModelEntry read{inside(text(entry, "path")),
                  {},
                  bytes.get<std::uintmax_t>(),
                  inside(text(field(entry, "reference"), "file")),
                  number(field(entry, "min_sqnr_db"), "min_sqnr_db")};
  for (const auto& [path, digest] : files.items()) read.files.emplace_back(inside(path));
  return read;
}

std::map<std::string, ModelEntry> models(const json& entries) {
  if (!entries.is_object() || entries.empty()) refuse("has no models");
  std::map<std::string, ModelEntry> read;
  for (const auto& [runtime, entry] : entries.items()) read.emplace(runtime, model(entry));
  return read;
}

std::uintmax_t size_of(const std::filesystem::path& file) {
  std::error_code failed;
  const std::uintmax_t bytes = std::filesystem::file_size(file, failed);
  if (failed) throw std::runtime_error(file.string() + " is missing or no file: push the whole bundle again");
  return bytes;
}

void require_size(const std::string& what, std::uintmax_t bytes, std::uintmax_t wanted) {
  if (bytes == wanted) return;
  throw std::runtime_error(what + " has " + std::to_string(bytes) + " bytes where " + std::to_string(wanted) +
                           " belong: push the whole bundle again");
}

}  // namespace

Bundle parse_bundle(const std::string& text_of_it) {
  const json bundle = json::parse(text_of_it, nullptr, /*allow_exceptions=*/false);
  if (!bundle.is_object()) refuse("is no JSON object");
  if (field(bundle, "schema") != kSchema) {
    refuse("has schema " + bundle["schema"].dump() + ", and this program reads schema " + std::to_string(kSchema));
  }
  const json& input = field(bundle, "input");
  const int side = side_of(field(input, "shape"));
  const int classes = whole(field(bundle, "classes"), "classes", kMostClasses);
  return {text(bundle, "edgevit"),
          text(bundle, "export_sha256"),
          text(bundle, "model"),
          text(bundle, "quant"),
          text(input, "name"),
          side,
          classes,
          labels(field(bundle, "labels"), classes),
          preprocess(field(bundle, "preprocess"), side),
          inside(text(field(bundle, "reference"), "file")),
          models(field(bundle, "models"))};
}

Bundle read_bundle(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw std::runtime_error(folder.string() + " is no folder: name one that edgevit bundle wrote");
  }
  std::ifstream stream(folder / "bundle.json", std::ios::binary);
  if (!stream) {
    throw std::runtime_error(folder.string() + " has no bundle.json to read: name a folder that edgevit bundle wrote");
  }
  return parse_bundle(std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()));
}

const ModelEntry& model_for(const Bundle& bundle, const std::string& runtime, const std::filesystem::path& folder) {
  const auto found = bundle.models.find(runtime);
  if (found == bundle.models.end()) {
    throw std::runtime_error("The bundle has no model for " + runtime + ": export one, and bundle it");
  }
  const ModelEntry& entry = found->second;
  std::uintmax_t bytes = 0;
  for (const auto& file : entry.files) bytes += size_of(folder / file);
  require_size("The model " + entry.path.string(), bytes, entry.bytes);
  return entry;
}

std::vector<float> read_floats(const std::filesystem::path& file, std::size_t count) {
  require_size(file.string(), size_of(file), count * sizeof(float));
  std::vector<float> values(count);
  std::ifstream stream(file, std::ios::binary);
  stream.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
  if (!stream) throw std::runtime_error(file.string() + " cannot be read: push the whole bundle again");
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    throw std::runtime_error(file.string() + " has values that are not finite: write the bundle again");
  }
  return values;
}

}  // namespace edgevit
