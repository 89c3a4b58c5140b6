# bash completion for cellwall(1)

_cellwall_kernelspecs() {
	# Names in the directories that Jupyter searches; a directory with kernel.json is one.
	local data=${JUPYTER_DATA_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/jupyter} directory spec
	local IFS=:
	for directory in $JUPYTER_PATH "$data" /usr/local/share/jupyter /usr/share/jupyter; do
		for spec in "$directory"/kernels/*/kernel.json; do
			[ -e "$spec" ] || continue
			spec=${spec%/kernel.json}
			printf '%s\n' "${spec##*/}"
		done
	done
}

_cellwall_staged() {
	# What was added for this folder: the first word of each line.
	cellwall stage list 2>/dev/null | sed -n 's/^\([^ ]*\)\(  .*\)\{0,1\}$/\1/p'
}

_cellwall_environments() {
	cellwall env list 2>/dev/null | sed -n 's/^\([^ ]*\) .* generation .*/\1/p'
}

_cellwall_choose() {
	# The lines of its input that begin with what was typed. Names are free text, and compgen -W would carry out what is in
	# them. `complete -o filenames` quotes what is put into the line, so what was typed may be quoted too.
	local typed=$1 line quoted
	COMPREPLY=()
	while IFS= read -r line; do
		printf -v quoted %q "$line"
		if [[ $line = "$typed"* || $quoted = "$typed"* ]]; then
			COMPREPLY+=("$line")
		fi
	done
}

_cellwall() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} words= names=
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words="kernel install list remove stage env log serve key policy doctor version help --help --version"
	else
		case $previous in
		--prefix | --stage | --show | --output | -o | --directory)
			mapfile -t COMPREPLY < <(compgen -d -- "$current")
			return
			;;
		--python | --policy | --token-file | --ca | --cert | --key | --host-key | --requirement | --advisories | -f | -p | -r)
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			return
			;;
		--wrap)
			_cellwall_choose "$current" < <(_cellwall_kernelspecs)
			return
			;;
		--env)
			_cellwall_choose "$current" < <(_cellwall_environments)
			return
			;;
		--name | --display-name | --setenv | --kernel | -k) return ;;
		esac
		case $verb in
		install)
			words="--user --prefix --sys-prefix --name --display-name --python --env --verify --policy --wrap
				--shared-environment --server-config --host --host-key --key --host-kernel --host-area --language --help"
			;;
		serve)
			case $previous in
			--certificate | --private-key | --client-ca | --token-file) mapfile -t COMPREPLY < <(compgen -f -- "$current") && return ;;
			--data | --runtime | --link-keys) mapfile -t COMPREPLY < <(compgen -d -- "$current") && return ;;
			--kernelspec | --default-kernel) _cellwall_choose "$current" < <(_cellwall_kernelspecs) && return ;;
			--log-format) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$current") && return ;;
			--log) mapfile -t COMPREPLY < <(compgen -W "warning info debug" -- "$current") && return ;;
			esac
			words="--listen --certificate --private-key --self-signed --client-ca --token-file --hub-api --hub-scopes
				--base-url --trusted-proxy --allow-host --allow-origin --kernelspec --default-kernel --allow-env
				--max-kernels --max-kernels-per-user --cull-idle --cull-connected --cull-busy --cull-interval --start-timeout --link-keys
				--link-keep --area-limit --max-connections --data --runtime --log --log-format --help"
			;;
		env)
			if [ "$COMP_CWORD" = 2 ]; then
				words="create list show update verify diff audit usage rollback export import remove gc --help"
			elif [ "$COMP_CWORD" = 3 ] && [[ $current != -* ]]; then
				names=_cellwall_environments
			else
				words="--python --requirement --allow-host --policy --uv --no-kernel --lock --sbom --advisories --quiet --json --help"
			fi
			;;
		key)
			words="new show allow revoke --as --directory --help"
			[ "$previous" = allow ] && mapfile -t COMPREPLY < <(compgen -f -- "$current") && return
			;;
		list) words="--prefix --json --help" ;;
		remove) words="--prefix --server-config --help" names=_cellwall_kernelspecs ;;
		doctor) words="--json --help" ;;
		stage)
			if [ "$COMP_CWORD" = 2 ]; then
				words="add list drop ls diff get put status recover --help"
			elif [[ $current != -* ]]; then
				case ${COMP_WORDS[2]} in
				add | put) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
				drop) _cellwall_choose "$current" < <(_cellwall_staged) ;;
				esac
				return
			else
				case ${COMP_WORDS[2]} in
				list) words="--all --json" ;;
				drop) words="--all --gone" ;;
				ls) words="--all --json --kernel --server --area --token-file --ca --cert --key" ;;
				diff) words="--all --json --kernel" ;;
				get) words="--kernel --output --server --area --token-file --ca --cert --key" ;;
				put) words="--kernel --server --area --token-file --ca --cert --key" ;;
				status) words="--json" ;;
				recover) words="--all --dry-run" ;;
				esac
				words="$words --help"
			fi
			;;
		log)
			if [ "$COMP_CWORD" -gt 2 ] && [ "${COMP_WORDS[2]}" = verify ] && [[ $current != -* ]]; then
				mapfile -t COMPREPLY < <(compgen -f -- "$current")
				return
			fi
			words="--blocked --follow --json --help"
			[ "$COMP_CWORD" = 2 ] && words="verify $words"
			;;
		policy)
			if [ "$COMP_CWORD" = 2 ]; then
				words="check show --help"
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$current")
				return
			fi
			;;
		kernel) words="-f --connection-file --policy --stage --show --setenv --env --verify --shared-environment --host --host-key --key --host-kernel --host-area -- --help" ;;
		esac
	fi
	_cellwall_choose "$current" < <(compgen -W "$words"; ${names:+"$names"})
}

complete -o filenames -F _cellwall cellwall
