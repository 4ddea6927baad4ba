/** What a program is made for. onnx.cpp and executorch.cpp each define all of this; a program is linked with one. */
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace edgevit {

/** The key of its models in a bundle.json, and what a result.json calls it. */
struct Runtime {
  std::string key;
  std::string name;
  std::string version;
  std::string delegate;
};

Runtime this_runtime();

/** What a model takes and gives: an image of `[1, 3, side, side]`, and `[1, classes]`. */
struct Signature {
  std::string input;  // its name
  int side;
  int classes;
};

/** A model that is loaded. Both functions throw std::runtime_error with one sentence that has what the runtime says. */
class Model {
 public:
  Model(const std::filesystem::path& file, const Signature& signature, int threads);
  ~Model();

  /** The logits of an input. */
  std::vector<float> run(const std::vector<float>& input);

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace edgevit
