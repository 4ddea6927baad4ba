/** What `edgevit bundle` writes, as apps/README.md has it. Digests are left to who pushed the files here. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "preprocess.hpp"

namespace edgevit {

/** A model of a bundle; its paths are relative to the bundle's folder. */
struct ModelEntry {
  std::filesystem::path path;
  std::vector<std::filesystem::path> files;
  std::uintmax_t bytes;             // of all of them
  std::filesystem::path reference;  // what it gives for the reference input
  double min_sqnr_db;
};

struct Bundle {
  std::string edgevit;
  std::string export_sha256;
  std::string model;
  std::string quant;
  std::string input;  // its name
  int side;           // of the input, in pixels
  int classes;
  std::vector<std::string> labels;  // one a class, or none at all
  Preprocess preprocess;
  std::filesystem::path reference;  // the reference input
  std::map<std::string, ModelEntry> models;
};

/** From the text of a bundle.json. Throws std::runtime_error with one sentence where it does not keep to the contract.
 */
Bundle parse_bundle(const std::string& text);

/** That of a folder. Throws as `parse_bundle`, and where there is none. */
Bundle read_bundle(const std::filesystem::path& folder);

/** The model for a runtime. Throws std::runtime_error where there is none, or its files have not the size they should.
 */
const ModelEntry& model_for(const Bundle& bundle, const std::string& runtime, const std::filesystem::path& folder);

/** A file of `count` float32, little-endian. Throws std::runtime_error where it has not so many, or one is not finite.
 */
std::vector<float> read_floats(const std::filesystem::path& file, std::size_t count);

}  // namespace edgevit
