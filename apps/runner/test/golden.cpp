/** The golden vectors: `test-golden FOLDER`. */
#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "answers.hpp"
#include "bundle.hpp"
#include "check.hpp"
#include "preprocess.hpp"
#include "timing.hpp"

namespace {

using namespace edgevit;
using nlohmann::json;
using std::filesystem::path;

std::string bytes_of(const path& file) {
  std::ifstream stream(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
}

Image picture(const path& folder, const json& image) {
  const std::string bytes = bytes_of(folder / image["file"].get<std::string>());
  return {image["width"], image["height"], {bytes.begin(), bytes.end()}};
}

Preprocess preprocess_of(const json& how) {
  const auto interpolation = how["interpolation"] == "bilinear" ? Interpolation::bilinear : Interpolation::bicubic;
  return {how["resize"], how["crop"], interpolation, how["mean"].get<std::array<float, 3>>(),
          how["std"].get<std::array<float, 3>>()};
}

void preprocesses(const json& golden, const path& folder) {
  const Image image = picture(folder, golden["image"]);
  for (const json& each : golden["preprocess"]) {
    const std::string name = each["tensor"];
    const std::string wanted = bytes_of(folder / name);
    const auto input = preprocess(image, preprocess_of(each["preprocess"]));
    const std::size_t size = input.size() * sizeof(float);
    check::that(size == wanted.size() && std::memcmp(input.data(), wanted.data(), size) == 0, name);
  }
}

void answers(const json& golden) {
  for (const json& each : golden["answers"]) {
    const std::string name = "the answer to " + each["logits"].dump();
    const auto probabilities = softmax(each["logits"]);
    for (std::size_t i = 0; i < probabilities.size(); ++i)
      check::near(probabilities[i], each["probabilities"].at(i), name);
    check::that(json(top(probabilities, 3)) == each["top"], "top of " + name);
  }
}

void percentiles(const json& golden) {
  for (const json& each : golden["percentiles"]) {
    const Latency found = summary(each["times_ms"], true);
    check::near(found.p50_ms, each["p50_ms"], "p50");
    check::near(found.p90_ms, each["p90_ms"], "p90");
    check::near(found.p99_ms, each["p99_ms"], "p99");
    check::near(found.min_ms, each["min_ms"], "min");
    check::near(found.spread, each["spread"], "spread");
    check::that(found.runs == each["times_ms"].size(), "runs");
  }
}

/** A null is a number that is not finite. */
std::vector<float> floats(const json& numbers) {
  std::vector<float> read;
  for (const json& number : numbers) read.push_back(number.is_null() ? NAN : number.get<float>());
  return read;
}

void parity(const json& golden) {
  for (const json& each : golden["parity"]) {
    const std::string name = "parity of " + each["output"].dump();
    const Parity found = compare(floats(each["reference"]), floats(each["output"]), each["min_sqnr_db"]);
    check::that(found.sqnr_db.has_value() == !each["sqnr_db"].is_null(), "whether there is an SQNR, " + name);
    if (found.sqnr_db) check::near(*found.sqnr_db, each["sqnr_db"], name);
    check::that(found.top1_matches == each["top1_matches"] && found.holds() == each["holds"], name);
  }
}

/** What is said of a bundle, or nothing where it is read. */
std::string problem(const json& bundle) {
  try {
    parse_bundle(bundle.dump());
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

void bundles(const json& golden) {
  for (const json& each : golden["bundles"]) {
    const std::string said = problem(each["bundle"]);
    const json& word = each["problem"];
    const bool as_wanted = word.is_null() ? said.empty() : said.find(word.get<std::string>()) != std::string::npos;
    check::that(as_wanted, "bundle of which " + word.dump() + " is wrong: " + said);
  }
  const Bundle read = parse_bundle(golden["bundles"].at(0)["bundle"].dump());
  check::that(read.model == "efficientvit_m0" && read.quant == "int8" && read.side == 32 && read.classes == 3,
              "fields");
  check::that(read.labels.at(1) == "caf\u00e9" && read.models.at("onnx").min_sqnr_db == 24.5, "fields of the parts");
}

template <typename Act>
bool refused(const Act& act) {
  try {
    act();
    return false;
  } catch (const std::runtime_error&) {
    return true;
  }
}

void not_finite() {
  check::that(refused([] { softmax({1, NAN}); }), "a probability of no number");
  check::that(refused([] { softmax({INFINITY, 1}); }), "a probability of infinity");
  check::that(!compare({1, 2}, {1, INFINITY}, -1000).holds(), "a logit that is infinite");
  check::that(refused([] { sqnr_db({0, 0}, {1, 2}); }), "a reference of zeros");
}

}  // namespace

int main(int, char** arguments) {
  const path folder = arguments[1];
  const json golden = json::parse(bytes_of(folder / "golden.json"));
  for (const char* list : {"preprocess", "answers", "percentiles", "parity", "bundles"}) {
    check::that(!golden.at(list).empty(), std::string("there is nothing under ") + list);
  }
  preprocesses(golden, folder);
  answers(golden);
  percentiles(golden);
  parity(golden);
  bundles(golden);
  not_finite();
  return check::failures == 0 ? 0 : 1;
}
