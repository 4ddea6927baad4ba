/** What Linux and Android tell of the device that a program runs on. `root` is the root of the file system, "/". */
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace edgevit {

struct Device {
  std::optional<std::string> name;
  std::optional<std::string> os;
  std::optional<std::string> soc;
  std::optional<std::string> arch;
  long cores;
  std::optional<std::string> emulated;  // by what

  /** Whether each of its instructions is emulated, so that no time would say anything. */
  bool emulates_instructions() const { return emulated == "qemu-user"; }
};

Device describe_device(const std::filesystem::path& root);

/** Of the first thermal zone, by number, whose type names the processor; nothing where no zone does. */
std::optional<double> celsius(const std::filesystem::path& root);

/** The peak of this process' memory so far, in 10^6 bytes: VmHWM. */
std::optional<double> peak_mb(const std::filesystem::path& root);

}  // namespace edgevit
