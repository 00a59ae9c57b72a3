"""The preset dictionary of codec 0x01 (RFC 1951 streams, zlib's ``deflateSetDictionary``). Part of the wire: never edited.

What is written most often stands last, where a match costs the fewest distance bits.
"""

from typing import Final

DICTIONARY_1: Final = b"".join(
    (
        b'"why":"upgrade"shutdown"stop""state":"lost"goodbye"online","epoch":"',
        b'","birth":1,"agent":"0.1.0","center":"',
        b'{"state":"away""state":"ready","ack_within_s":300,"time":179',
        b'"hold":"unknown center","unreadable":"","reason":"not-deflate"not-json"bad-message',
        b'"refused":[[1,"bad-field"],"unknown-kind"time-future"time-before-2020"',
        b',"within_s":,"clock":"unsynced","clock":"estimated",',
        b'"drop",0,"ping","spool full"],',
        b'"boot",0,"host","first","agent","clean","shutdown","upgrade","stop","host","unclean",null,179',
        b',"0.1.0","Linux x86_64","kept","new","damaged",',
        b'null,null,null,null,null,"timeout"no route"unreachable"refused"no reply"],',
        b'"http",0,"portal",4,6,null,6,204,false,true,200],[0,',
        b'"dns",0,"system","system","udp","www.","NXDOMAIN"SERVFAIL""NOERROR"],[',
        b'"host",0,1,1,3,4,null,2.5,0.05,1,0.1,"memory","disk",-0.1],[',
        b'"traffic",0,"wlan0",300,"eth0",300,1,1,1],[',
        b'"ping",0,"quad9",6,"tcp",10,10,6,6,6,6],[',
        b'"ping",0,"google",4,"raw",10,10,6,6,6,6],[',
        b'"ping",0,"cloudflare",4,"datagram",10,10,6,6,6,6,1],[',
        b'"tick",0,"offline","collector"gateway"terminal"route"dns"portal","internet","+-.----"++.-???"],[60,',
        b'"replied":179"received":179"sent":"stored":[[1,',
        b'{"epoch":"","sent":1,"center":"","waiting":1,"ack":"now","seq":1,"time":179',
        b'"tick",0,"online","collector","++.+===-"],[60,"tick",0,"online",null,"++.+++=","quad9","raw",6],[60,',
        b'"tick",0,"online",null,"++.+==+","google","tcp",6],[60,',
        b'{"epoch":"","sent":1,"seq":1,"time":179',
        b',"records":[[0,"tick",0,"online",null,"++.+==+","cloudflare","datagram",6]]}],[60,"tick",0,"online",null,"++.+==+","cloudflare","datagram",',
    )
)
