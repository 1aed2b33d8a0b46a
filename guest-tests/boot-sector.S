# boot-sector.S: the first sector of a test disk that SeaBIOS boots; loads GRUB's core and jumps to it.
#
# GRUB's own boot sector counts in sectors of 512 bytes; this one reads by logical blocks of any size
# up to 4096 bytes, because the disks under test have both. make-boot-disk writes the two parameters
# and the partition table into the assembled 512 bytes. BIOS: int 13h function 42h (EDD 3.0).
    .code16
    .globl _start
    .set core_segment, 0x820        # GRUB's core (without its own disk loader) runs at 0x8200

_start:
    cli
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7c00, %sp
    sti
    ljmp    $0, $next
next:
    movw    core_blocks, %cx
read:
    pushw   %cx
    movb    $0x42, %ah
    movw    $packet, %si
    int     $0x13                   # keeps %dl, the drive
    popw    %cx
    jc      error
    movw    block_paragraphs, %ax
    addw    %ax, packet_segment
    incl    packet_block
    loop    read
    ljmp    $0, $(core_segment << 4)
error:
    movw    $message, %si
1:  lodsb
    testb   %al, %al
    jz      2f
    movw    $0x0007, %bx
    movb    $0x0e, %ah
    int     $0x10
    jmp     1b
2:  hlt
    jmp     2b

message:
    .asciz  "test disk: GRUB cannot be read\r\n"
    .balign 4
packet:
    .byte   16, 0
    .word   1                       # blocks
    .word   0                       # offset
packet_segment:
    .word   core_segment
packet_block:
    .long   1, 0

    .org    0x1a0                   # parameters, at a place that make-boot-disk knows
core_blocks:
    .word   0
block_paragraphs:
    .word   0                       # block size / 16
    .org    0x1fe
    .word   0xaa55
