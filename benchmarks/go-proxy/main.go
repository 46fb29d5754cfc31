// A bare reverse proxy, the yardstick of what a compiled language takes: go-proxy LISTEN UPSTREAM [LISTEN UPSTREAM ...]
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	transport := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 1024, DisableCompression: true}
	failed := make(chan error)
	for i := 1; i+1 < len(os.Args); i += 2 {
		target, err := url.Parse(os.Args[i+1])
		if err != nil {
			log.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = transport
		proxy.FlushInterval = -1
		go func(address string) { failed <- http.ListenAndServe(address, proxy) }(os.Args[i])
	}
	log.Fatal(<-failed)
}
