/** ONNX Runtime, on its CPU provider. */
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "runtime.hpp"

namespace edgevit {
namespace {

/** Kept to itself: what goes wrong is said by its exceptions, and printed once. */
constexpr OrtLoggingLevel kQuiet = ORT_LOGGING_LEVEL_FATAL;

Ort::Env environment() {
  // Official builds since 1.29 send telemetry unless this is set before the environment is made.
  setenv("ORT_DISABLE_TELEMETRY", "1", /*overwrite=*/1);
  if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
    throw std::runtime_error("libonnxruntime " + this_runtime().version +
                             " is older than the headers of this program: "
                             "build it with headers of 1." +
                             std::to_string(ORT_API_VERSION) + " or earlier");
  }
  return Ort::Env(kQuiet, "edgevit");
}

Ort::SessionOptions session_options(int threads) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(threads);
  options.SetInterOpNumThreads(1);
  options.SetLogSeverityLevel(kQuiet);
  return options;
}

}  // namespace

Runtime this_runtime() { return {"onnx", "onnxruntime", OrtGetApiBase()->GetVersionString(), "CPU"}; }

struct Model::Loaded {
  Loaded(const std::filesystem::path& file, const Signature& signature, int threads)
      : env(environment()),
        session(env, file.c_str(), session_options(threads)),
        signature(signature),
        output(session.GetOutputNameAllocated(0, Ort::AllocatorWithDefaultOptions()).get()),
        shape{1, 3, signature.side, signature.side} {}

  std::vector<float> run(const std::vector<float>& input) {
    const char* const inputs[] = {signature.input.c_str()};
    const char* const outputs[] = {output.c_str()};
    // ONNX Runtime takes no const data, and leaves an input as it is.
    const Ort::Value image = Ort::Value::CreateTensor<float>(memory, const_cast<float*>(input.data()), input.size(),
                                                             shape.data(), shape.size());
    const auto values = session.Run(Ort::RunOptions{nullptr}, inputs, &image, 1, outputs, 1);
    const auto given = values.front().GetTensorTypeAndShapeInfo();
    if (given.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ||
        given.GetElementCount() != static_cast<std::size_t>(signature.classes)) {
      throw std::runtime_error("The model does not give " + std::to_string(signature.classes) +
                               " float32 logits, as the bundle says: write the bundle again");
    }
    const float* logits = values.front().GetTensorData<float>();
    return {logits, logits + signature.classes};
  }

  Ort::Env env;
  Ort::Session session;
  Signature signature;
  std::string output;
  std::array<std::int64_t, 4> shape;
  Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
};

Model::Model(const std::filesystem::path& file, const Signature& signature, int threads) try
    : loaded_(std::make_unique<Loaded>(file, signature, threads)) {
} catch (const Ort::Exception& error) {
  throw std::runtime_error("ONNX Runtime cannot load " + file.string() +
                           ", export and bundle it again: " + error.what());
}

Model::~Model() = default;

std::vector<float> Model::run(const std::vector<float>& input) {
  try {
    return loaded_->run(input);
  } catch (const Ort::Exception& error) {
    throw std::runtime_error(std::string("ONNX Runtime cannot run the model, export and bundle it again: ") +
                             error.what());
  }
}

}  // namespace edgevit
