# The image holds the static binary and nothing else. `make image` builds the
# binary first.
FROM scratch
COPY bin/bivalve /bivalve
ENTRYPOINT ["/bivalve"]
CMD ["server", "--config", "/etc/bivalve/config.yaml"]
