"""Which kernel modules a node has, by when they are loaded. The guests read this too."""

from __future__ import annotations

from tests.lab import layout

BOOT = ("virtio_pci", "virtio_blk", "squashfs", "overlay")
"""Loaded by the initramfs, before the root file system is there."""

EARLY = ("virtio_net", "virtio_console", "virtio_rng", "bridge", "veth")
"""Loaded before a node says that it is up."""

LATE = layout.words("""
    inet_diag tcp_diag udp_diag raw_diag unix_diag netlink_diag af_packet_diag tun nf_tables nf_conntrack
    nf_conntrack_netlink nft_ct nft_reject nft_reject_inet nft_hash
""")
"""What CRIU's check, the agent and workloads use; loaded in the background so that no first use pays for it."""

ON_DEMAND = layout.words("""
    nft_nat nft_masq nft_chain_nat nft_limit nft_log nft_numgen nft_fib nft_fib_inet nft_socket nft_redir
    nft_meta_bridge nft_objref nft_tproxy nft_queue nfnetlink_log nfnetlink_queue br_netfilter nf_conntrack_bridge
    nf_nat sch_netem sch_ingress sch_tbf sch_fq cls_u32 cls_bpf act_mirred ifb dummy macvlan ipvlan vxlan tls vsock
    nf_dup_netdev nft_dup_netdev nft_fwd_netdev
""")
"""In the image, loaded by the kernel or a test when something asks for them."""
