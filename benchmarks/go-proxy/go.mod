module holdfast.invalid/go-proxy

go 1.19
