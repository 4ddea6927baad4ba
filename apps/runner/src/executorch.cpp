/** ExecuTorch, with XNNPACK. */
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "runtime.hpp"

// The wheel has the library of this, and no header for it.
namespace executorch::extension::threadpool {

class ThreadPool {
 public:
  std::size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};

ThreadPool* get_threadpool();

}  // namespace executorch::extension::threadpool

namespace edgevit {
namespace {

using executorch::extension::Module;
using executorch::runtime::Error;

std::string last_error;  // that ExecuTorch logged; its error codes say little

void keep(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
          std::size_t length) {
  if (level == kError) last_error.assign(message, length);
  if (level == kFatal) std::fprintf(stderr, "ExecuTorch: %.*s\n", static_cast<int>(length), message);  // and it aborts
}

void require(Error error, const std::string& what) {
  if (error == Error::Ok) return;
  throw std::runtime_error("ExecuTorch cannot " + what +
                           ", export and bundle it again: " + executorch::runtime::to_string(error) + " " + last_error);
}

/** The pool belongs to the process, and a method that is loaded would go on with the one before. */
void set_threads(int threads) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  if (pool != nullptr) pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads));
  if (pool == nullptr || pool->get_thread_count() != static_cast<std::size_t>(threads)) {
    throw std::runtime_error("ExecuTorch cannot make " + std::to_string(threads) + " threads: ask for fewer");
  }
}

}  // namespace

Runtime this_runtime() { return {"executorch", "executorch", EDGEVIT_EXECUTORCH_VERSION, "XNNPACK"}; }

struct Model::Loaded {
  Loaded(const std::filesystem::path& file, const Signature& signature) : module(file.string()), signature(signature) {
    const std::string what = "load " + file.string();
    require(module.load(executorch::runtime::Program::Verification::InternalConsistency), what);
    require(module.load_forward(), what);
  }

  std::vector<float> run(const std::vector<float>& input) {
    // A tensor takes no const data, and a program leaves its input as it is.
    const auto image =
        executorch::extension::from_blob(const_cast<float*>(input.data()), {1, 3, signature.side, signature.side});
    const auto values = module.forward(image);
    require(values.error(), "run the model");
    if (values->empty() || !values->front().isTensor() ||
        values->front().toTensor().scalar_type() != executorch::aten::ScalarType::Float ||
        values->front().toTensor().numel() != signature.classes) {
      throw std::runtime_error("The model does not give " + std::to_string(signature.classes) +
                               " float32 logits, as the bundle says: write the bundle again");
    }
    const float* logits = values->front().toTensor().const_data_ptr<float>();
    return {logits, logits + signature.classes};
  }

  Module module;
  Signature signature;
};

Model::Model(const std::filesystem::path& file, const Signature& signature, int threads) {
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(keep, "executorch.cpp"));
  set_threads(threads);
  loaded_ = std::make_unique<Loaded>(file, signature);
}

Model::~Model() = default;

std::vector<float> Model::run(const std::vector<float>& input) { return loaded_->run(input); }

}  // namespace edgevit
