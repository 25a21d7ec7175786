#!/usr/bin/env bats
# Emulators: Bochs, DOSBox and SIMH, with disks that their guests read and write.

# What clients.bash calls and reads is not seen here:
# shellcheck disable=SC2034,SC2317,SC2119,SC2120

load common
load clients

# ---- Bochs --------------------------------------------------------------------------------------------------

# bochs_machine DISK-LINES...: the machine's description and the debugger's commands: continue.
bochs_machine() {
    printf '%s\n' "$@" >bochsrc
    cat >>bochsrc <<'END'
config_interface: textconfig
display_library: sdl2
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
megs: 32
clock: sync=none, time0=1500000000
log: bochs.log
panic: action=fatal
port_e9_hack: enabled=1
plugin_ctrl: speaker=0
END
    echo c >commands
}

bochs_disk() {
    boot_sector disk.img "${1-}"
    truncate -s $((10 * 16 * 63 * 512)) disk.img
    bochs_machine 'ata0-master: type=disk, path=disk.img, mode=flat, cylinders=10, heads=16, spt=63' 'boot: disk'
}

bochs_floppy() {
    boot_sector floppy.img "${1-}"
    truncate -s 1474560 floppy.img
    bochs_machine 'floppya: 1_44=floppy.img, status=inserted' 'boot: floppy'
}

bochs=(bochs-bin -q -f bochsrc -rc commands)

bochs_setup() {
    # SDL's dummy screen is too small for it.
    ! bochs-bin --help 2>&1 | grep -q 'Emulator 2\.6' || skip "bochs before 2.7 needs a screen"
    export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy
    # The machine was switched off by its guest: Bochs calls that a panic.
    CLIENT_STATUS=1
    CLIENT_LEAVES=bochs.log
    normalise() { sed -E 's/0x55[0-9a-f]{10}|0x56[0-9a-f]{10}/POINTER/g'; }
    VARIES=bochs.log
}

@test "bochs: a hard disk" {
    bochs_setup
    prepare() { bochs_disk; }
    works_as_before disk.img "${bochs[@]}"
    assert_guest_wrote disk.img
    refused disk.img "${bochs[@]}"
    assert_guest_wrote disk.img
}

@test "bochs: holds its hard disk while the machine runs" {
    bochs_setup
    prepare() { bochs_disk stay; }
    fresh_directory
    begins "${bochs[@]}"
    wait_until grep -q 'the guest wrote' ../stdout
    keeps_others_out disk.img bochs-bin
    kill -9 "$CLIENT"
    ends 137
    assert_guest_wrote disk.img
    admits_others disk.img
}

@test "bochs: a floppy disk, for which it tries a second time to read only" {
    bochs_setup
    prepare() { bochs_floppy; }
    works_as_before floppy.img "${bochs[@]}"
    assert_guest_wrote floppy.img
    refused floppy.img "${bochs[@]}"
    assert_guest_wrote floppy.img
}

# ---- DOSBox -------------------------------------------------------------------------------------------------

dosbox=(dosbox -noconsole -conf /dev/null)

dosbox_setup() {
    export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy HOME=$BATS_TEST_TMPDIR
}

dos_floppy() {
    truncate -s 1474560 floppy.img
    mformat -f 1440 -N 12345678 -i floppy.img ::
    printf 'text\r\n' >text
    mcopy -i floppy.img text ::
}

@test "dosbox: a mounted floppy image" {
    dosbox_setup
    prepare() { SOURCE_DATE_EPOCH=1500000000 dos_floppy; }
    local commands=(-c 'imgmount a floppy.img -t floppy' -c 'copy a:text a:copy.txt' -c exit)
    works_as_before floppy.img "${dosbox[@]}" "${commands[@]}"
    assert_equal "$(mtype -i floppy.img ::copy.txt)" $'text\r'
    # DOSBox says nothing but "could not be opened" on its own screen, and ends well.
    while_held floppy.img "${dosbox[@]}" "${commands[@]}"
    assert_success
    refute_output --partial "Mounted FAT volume"
    gets_in floppy.img "${dosbox[@]}" "${commands[@]}"
    assert_equal "$(mtype -i floppy.img ::copy.txt)" $'text\r'
}

@test "dosbox: holds a mounted image until it ends" {
    dosbox_setup
    prepare() { dos_floppy; }
    fresh_directory
    begins "${dosbox[@]}" -c 'imgmount a floppy.img -t floppy'
    wait_until lock_is floppy.img exclusive
    keeps_others_out floppy.img dosbox
    kill "$CLIENT"
    ends 0
    admits_others floppy.img
}

@test "dosbox: boots from a floppy image, or is refused" {
    dosbox_setup
    prepare() { boot_sector floppy.img stay; truncate -s 1474560 floppy.img; }
    fresh_directory
    begins "${dosbox[@]}" -c 'boot floppy.img'
    wait_until assert_guest_wrote floppy.img
    keeps_others_out floppy.img dosbox
    kill "$CLIENT"
    ends 0
    admits_others floppy.img
    while_held floppy.img "${dosbox[@]}" -c 'boot floppy.img' -c exit
    assert_success
    refute_output --partial "Loaded disk"
}

# ---- SIMH ---------------------------------------------------------------------------------------------------

pdp11_setup() {
    needs pdp11
    prepare() {
        truncate -s 1M disk.dsk
        printf '%s\n' 'set rl0 rl02' 'attach rl0 disk.dsk' 'show rl0' 'deposit rl0 0 1234' 'examine rl0 0' \
            'detach rl0' exit >commands
    }
}

@test "simh: an attached disk" {
    pdp11_setup
    works_as_before disk.dsk pdp11 commands
    assert_equal "$(od -An -to2 -N2 disk.dsk)" " 001234"
    # Refused to open the disk for reading and writing, the simulator tries to create it anew.
    while_held disk.dsk pdp11 commands
    assert_success
    assert_output --partial "File open error"
    assert_output --partial "Unit not attached"
    gets_in disk.dsk pdp11 commands
    assert_equal "$(od -An -to2 -N2 disk.dsk)" " 001234"
}

@test "simh: holds a disk while it is attached" {
    pdp11_setup
    fresh_directory
    begins pdp11
    says 'set rl0 rl02' 'attach rl0 disk.dsk' 'examine rl0 0'
    wait_until lock_is disk.dsk exclusive
    keeps_others_out disk.dsk pdp11
    says 'detach rl0'
    wait_until lock_is disk.dsk free
    admits_others disk.dsk
    says exit
    ends 0
}
