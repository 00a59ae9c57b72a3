"""The preset dictionary of codec 0x01 (RFC 1951 streams, zlib's ``deflateSetDictionary``). Part of the wire: never edited.

It was found by a search: from parts of what agents and collectors say, keep what makes the reports of many made-up centers
(`kerege_lab.bench.mix`: single ticks first, then 25 mixed records), acks and presences smallest. Which is why it reads as it does, numbers
among the words: what is written most often stands last, where a match costs the fewest distance bits.
"""

from typing import Final

DICTIONARY_1: Final = (
    b'+.+==+","quad9",E","sent":767,0.5]]74,"received":1848,"spool full"],"unreadable":"","reason":"not-deflate"not-json"b'
    b'ad-message"0.1.0","Windows AMD64","Linux x86_64","new","damaged","kept"]drop",0,"reason":"too"clock":"unsynced"{"epo'
    b'ch":"within_s":300.6,1.8]]3,"repli,"clock":"estimated","refused":[[1,"bad-field"unknown-kind"time-before-2020"time-f'
    b'uture"]]boot",0,"agent","state":"online","epoch":"ud-YHttn","birth":5,"agent":"0.1.0":2,"center":"center-15","waitin'
    b'g":4,"ack":"now","birth":7,"received":1802,"why":"upgrade"shutdown"stop","agent":"0.1.0"}{"state":"lost","tick",0,"o'
    b'ffline","internet","++.-???",null,null,null,0.5,"stored":[[1,12],"hold":"unknown center"no resolver answers"timeout"'
    b'],[[goodbye","epoch":"9,113,113,3","waiting":1,"ack":"now","sent":9846],[3,"wlan0"tcp",628,62,0.94],"sent":"Ethernet'
    b'",2,"received":187.4,0.88],[16,?.+==+","cloudflare","datagram",{"epoch":"mud","sent":8,"repli692,"seq":28,0.52]]0,"s'
    b'tored":[[1,131,27,0.064,"repl,"host",0,6.1,0.49],[49,1.5]]"raw",62,26,0.0552.1,0.71],69.4,69.4,0.74]ready","time":18'
    b'58,2.8],[56,6.7,0.79]]166,1.5],[35,w",78.2,0.9],[32,4","sent":66":989730.2],[33,1.1]],27.8,0.045.7,1.6],[41,oA","sen'
    b't":87.1],[50,"s9.4],[33"unclean",null","sent":5561,27.3,0.09.1,0.45]]raw",10,10,660,0.68],[12,"null,68.2,0.068,1.7],'
    b'[30.8],[26,1.6,0.38],[60,"tick",0,"online",null,"++.+==+","cloudflare","datagram",49145,26.3,0.034,2.1],[39,0.29.3,0'
    b'.86],[20,"host",0,5.8sD","sent":20022,1.1],[24,q","sent":89null,1853014,"seq":2278,"time":1797624556,"records":[[0,"'
    b'ping",0,"cloudflare",4,"datagram",10,10,6],[0,"ping",0,"google",4,"datagram",10,10,6],[0,"ping",0,"quad9",4,"datagra'
    b'm",10,10,61r","sent":725,"seq":298,"time":18041,28.6,0.04,610,"time":180++","cloudflare","datagram",595,0.91],[37,0,'
    b'"seq":253s","sent":337.9],[13,"host",0,3.2,1.3],[63,0.32]7,"traffic",0,"eth0",309,1.1],[4,1.2],[19,1],[5,"http",0,"p'
    b'ortal",4,81.8,76.4,null,75,0.51],[58,42,"dns",0,"system","udp","www.google.comwww.wikipedia.orggov.kz",6,"NOERROR"],'
    b'[21,"http",0,"portal",4,0.8,6,null,204,false],[29,2H","sent":9Z","sent":476.5,0.7302,28.9,0.04,"seq":14,"host",0,1.1'
    b',0.041,"disk",0.000,"seq":1107,"time":17968,0.0328,"disk",-0.0,664,"records":[[0,"tick",0,"online",null,"++.+==+","c'
    b'loudflare","datagram",61.4],[10,0.3],[15,0.0369,"disk",-0.01,0.84],[64,"7.6,0.61],[60,"tick",0,"online",null,"++.++='
    b'+","cloudflare","datagram",637{"epoch":"","sent":1,"seq":7,"seq":1791,"time":180'
)
