#include "device.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <system_error>
#include <vector>

#ifdef __ANDROID__
#include <sys/system_properties.h>
#endif

namespace edgevit {
namespace {

using std::filesystem::path;
using Text = std::optional<std::string>;

#if defined(__aarch64__)
const std::string kArchitecture = "aarch64";
#elif defined(__x86_64__)
const std::string kArchitecture = "x86_64";
#else
#error "The runtimes' libraries are published for x86-64 and 64-bit Arm: compile for one of them."
#endif

/** The parts of a file that `separator` ends: lines, or the texts of a device tree; none where it cannot be read. */
std::vector<std::string> parts(const path& file, char separator) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<std::string> found;
  for (std::string part; std::getline(stream, part, separator);) found.push_back(part);
  return found;
}

Text first_line(const path& file) {
  const auto lines = parts(file, '\n');
  return lines.empty() ? Text() : lines.front();
}

/** What follows the colon on the first line that begins with `key`. */
Text entry(const path& file, const std::string& key) {
  for (const std::string& line : parts(file, '\n')) {
    const std::size_t colon = line.find(':');
    if (line.compare(0, key.size(), key) != 0 || colon == std::string::npos) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? Text() : line.substr(start);
  }
  return std::nullopt;
}

#ifdef __ANDROID__
Text property(const char* name) {
  char value[PROP_VALUE_MAX];
  return __system_property_get(name, value) > 0 ? Text(value) : Text();
}

Text name_of(const path&) { return property("ro.product.model"); }

Text soc_of(const path&) { return property("ro.soc.model"); }

Text os_of(const utsname&) { return "Android " + property("ro.build.version.release").value_or(""); }

Text virtual_device() {
  const bool is = property("ro.boot.qemu") == "1" || property("ro.kernel.qemu") == "1";  // until Android 11
  return is ? Text("Android emulator") : Text();
}
#else
/** A board's own name, which a PC has not. */
Text name_of(const path& root) {
  const auto model = parts(root / "sys/firmware/devicetree/base/model", '\0');
  return model.empty() ? Text() : model.front();
}

/** Boards list what they are compatible with from the board to its SoC; a PC names its processor. */
Text soc_of(const path& root) {
  const auto compatible = parts(root / "sys/firmware/devicetree/base/compatible", '\0');
  return compatible.empty() ? entry(root / "proc/cpuinfo", "model name") : compatible.back();
}

Text os_of(const utsname& system) { return std::string(system.sysname) + " " + system.release; }

Text virtual_device() { return std::nullopt; }
#endif

/**
 * qemu-user answers uname and /proc/self with what it emulates, and passes the rest of /proc through. So the kernel's
 * own architecture, which Linux tells since 6.1, is another; and /proc/thread-self/exe, which is the emulator itself,
 * is not the program of /proc/self/exe.
 */
bool under_qemu_user(const path& root) {
  const Text kernel = first_line(root / "proc/sys/kernel/arch");
  if (kernel && *kernel != kArchitecture) return true;
  std::error_code none_to_read;
  const path told = std::filesystem::read_symlink(root / "proc/self/exe", none_to_read);
  const path run = std::filesystem::read_symlink(root / "proc/thread-self/exe", none_to_read);
  return !told.empty() && !run.empty() && told != run;
}

bool names_processor(std::string type) {
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char letter) { return std::tolower(letter); });
  const auto has = [&](const char* word) { return type.find(word) != std::string::npos; };
  return has("cpu") || has("soc") || has("x86_pkg");
}

/** By number, as the directory lists them in any order. */
std::map<long, path> thermal_zones(const path& root) {
  const std::string prefix = "thermal_zone";
  std::map<long, path> zones;
  std::error_code none_to_list;
  for (const auto& each : std::filesystem::directory_iterator(root / "sys/class/thermal", none_to_list)) {
    const std::string name = each.path().filename();
    if (name.compare(0, prefix.size(), prefix) == 0) zones[std::stol(name.substr(prefix.size()))] = each.path();
  }
  return zones;
}

}  // namespace

Device describe_device(const path& root) {
  utsname system{};
  uname(&system);
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (under_qemu_user(root)) return {{}, os_of(system), {}, system.machine, cores, "qemu-user"};
  return {name_of(root), os_of(system), soc_of(root), system.machine, cores, virtual_device()};
}

std::optional<double> celsius(const path& root) {
  for (const auto& [number, zone] : thermal_zones(root)) {
    if (!names_processor(first_line(zone / "type").value_or(""))) continue;
    std::ifstream stream(zone / "temp");
    double thousandths = 0;
    return stream >> thousandths ? std::optional(thousandths / 1000) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<double> peak_mb(const path& root) {
  double kibibytes = 0;
  std::istringstream peak(entry(root / "proc/self/status", "VmHWM").value_or(""));
  return peak >> kibibytes ? std::optional(kibibytes * 1024 / 1e6) : std::nullopt;
}

}  // namespace edgevit
