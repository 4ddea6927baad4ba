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

void decibels(const json& golden) {
  for (const json& each : golden["sqnr"]) {
    const auto found = sqnr_db(each["reference"], each["output"]);
    check::near(found.value_or(NAN), each["sqnr_db"], "SQNR of " + each["output"].dump());
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

bool refused(const std::vector<float>& logits) {
  try {
    softmax(logits);
    return false;
  } catch (const std::runtime_error&) {
    return true;
  }
}

void not_finite() {
  check::that(refused({1, NAN}) && refused({INFINITY, 1}), "a probability of no number");
  check::that(!sqnr_db({1, 2}, {1, NAN}) && !compare({1, 2}, {1, NAN}, -1000).holds(), "a logit that is no number");
  check::that(!sqnr_db({1, 2}, {1, INFINITY}), "a logit that is infinite");
  check::that(!compare({1, 2}, {2.1F, 2}, 0).holds(), "another first class");
  check::that(compare({1, 2}, {1.1F, 2}, 20).holds() && !compare({1, 2}, {1.1F, 2}, 30).holds(), "the least SQNR");
}

}  // namespace

int main(int, char** arguments) {
  const path folder = arguments[1];
  const json golden = json::parse(bytes_of(folder / "golden.json"));
  for (const char* list : {"preprocess", "answers", "percentiles", "sqnr", "bundles"}) {
    check::that(!golden.at(list).empty(), std::string("there is nothing under ") + list);
  }
  preprocesses(golden, folder);
  answers(golden);
  percentiles(golden);
  decibels(golden);
  bundles(golden);
  not_finite();
  return check::failures == 0 ? 0 : 1;
}
