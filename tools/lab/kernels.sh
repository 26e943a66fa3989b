#!/usr/bin/env bash
# Runs the main jobs of bench on other kernels, on each engine: Debian's cloud kernels under qemu, without KVM.
#
#   [BENCH=path] [CACHE=folder] [PATIENCE=300] tools/lab/kernels.sh [6.1 6.12 ...]
#
# Each kernel boots with an initramfs of busybox, the program, ip and tc and their libraries. kernels/init runs there, and
# kernels/verdict.py checks its output. These kernels have netem and fq, which many development kernels lack. Nothing is
# installed; the kernel packages are downloaded to CACHE, by default ~/.cache/wirebench-kernels, from apt's mirror. Prints a line
# for each job. Exits with 1 if a job failed, with 3 if nothing could be run; unavailable kernels are skipped and named.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wirebench-kernels}
# Timeout of a machine in seconds; it needs about 40 on an idle host.
readonly patience=${PATIENCE:-300}
# Modules in dependency order. Built-in ones are absent and not needed.
readonly modules="veth sch_netem sch_fq"

fail() {
    echo "kernels.sh: $*" >&2
    exit 3
}

for tool in qemu-system-x86_64 busybox apt-get dpkg-deb ip tc python3 xz gzip; do
    command -v "$tool" >/dev/null ||
        fail "$tool is needed: apt-get install qemu-system-x86 busybox-static iproute2 python3 xz-utils"
done
ldd "$(command -v busybox)" >/dev/null 2>&1 && fail "busybox must be static: apt-get install busybox-static"
bench=${BENCH:-${CARGO_TARGET_DIR:-$here/../../target}/release/bench}
[[ -x $bench ]] || fail "no program at $bench; run cargo build --release or set BENCH"
mkdir -p "$cache"
work=$(mktemp -d)
readonly work
qemu=''
leave() {
    [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

# apt with its own lists, which include backports; those of the system do not change.
backports() {
    local state=$cache/apt mirror codename
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -1)
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [[ -n $mirror && -n $codename ]] || return 1
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $codename-backports main" >"$state/sources.list"
    apt=(-o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state")
    [[ -n $(ls "$state"/lists/*_Packages* 2>/dev/null) ]] || apt-get "${apt[@]}" update >/dev/null 2>&1
}

# package_of VERSION: downloads its newest cloud kernel and prints the path of the package.
package_of() {
    local version=${1//./\\.} name have
    have=$(find "$cache" -maxdepth 1 -name "linux-image-$1*-cloud-amd64_*.deb" | sort -V | tail -1)
    if [[ -n $have ]]; then
        echo "$have"
        return
    fi
    for source in release backports; do
        apt=()
        [[ $source == release ]] || backports || continue
        name=$(apt-cache ${apt[@]+"${apt[@]}"} search "^linux-image-$version[.0-9+~a-z-]*-cloud-amd64\$" | cut -d' ' -f1 | sort -V | tail -1)
        [[ -n $name ]] || continue
        (cd "$cache" && apt-get ${apt[@]+"${apt[@]}"} download "$name" >/dev/null 2>&1) || continue
        find "$cache" -maxdepth 1 -name "${name}_*.deb" | tail -1
        return
    done
}

# Adds a program and its libraries to the root folder.
add() {
    local program library
    program=$(command -v "$1")
    install -D "$program" "$root/tools/$(basename "$1")"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        [[ -e $root$library ]] || install -D "$library" "$root$library"
    done
}

# Builds the initramfs of an unpacked kernel.
initramfs() {
    root=$work/root-$1
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,root}
    install "$(command -v busybox)" "$root/bin/busybox"
    add ip
    add tc
    add "$bench"
    mv "$root/tools/$(basename "$bench")" "$root/tools/bench" 2>/dev/null || true
    mkdir "$root/modules"
    local module file
    for module in $modules; do
        file=$(find "$work/$1" -name "$module.ko*" | head -1)
        case $file in
        *.xz) xz -dc "$file" >"$root/modules/$module.ko" ;;
        *.ko) cp "$file" "$root/modules/$module.ko" ;;
        esac
    done
    install "$here/kernels/init" "$root/init"
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs-$1"
}

wanted=("$@")
(($# > 0)) || wanted=(6.1 6.12)
ran=0 failed=0
for version in "${wanted[@]}"; do
    package=$(package_of "$version" || true)
    if [[ -z $package ]]; then
        echo "SKIP  $version: no package linux-image-$version...-cloud-amd64; try apt-get update"
        continue
    fi
    mkdir -p "$work/$version"
    dpkg-deb -x "$package" "$work/$version"
    initramfs "$version"
    kernel=$(find "$work/$version/boot" -name 'vmlinuz-*')
    echo "===== $(basename "$kernel" | cut -d- -f2-)"
    timeout "$patience" qemu-system-x86_64 -M q35 -cpu max -accel tcg,thread=multi -smp 2 -m 1024 -nographic -no-reboot \
        -net none -kernel "$kernel" -initrd "$work/initramfs-$version" \
        -append "console=ttyS0 quiet rdinit=/init panic=-1" </dev/null >"$work/console-$version" 2>&1 &
    qemu=$!
    wait "$qemu" || echo "FAIL  the machine did not power off within $patience s"
    qemu=''
    ran=$((ran + 1))
    python3 "$here/kernels/verdict.py" "$work/console-$version" || failed=$((failed + 1))
    cp "$work/console-$version" "$cache/console-$version.txt"
done
((ran > 0)) || fail "no kernel could be run"
exit $((failed > 0))
