module sluis/tools

go 1.26.0
