/** The two rules that hold the house up: the engine knows nothing of the server around it, and no arrow turns back. */
module.exports = {
  forbidden: [
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'engine-stands-alone', severity: 'error', from: { path: '^src/engine' }, to: { path: '^src/(?!engine)' } },
    {
      name: 'engine-without-framework',
      severity: 'error',
      from: { path: '^src/engine' },
      to: { path: 'node_modules/(@nestjs|express|kysely|pg-boss|pino)' },
    },
    {
      name: 'common-below-features',
      severity: 'error',
      from: { path: '^src/(common|config|catalog)' },
      to: { path: '^src/(?!common|config|catalog|engine|version)[^/]+/' },
    },
    {
      name: 'repositories-are-private',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: '^src/[^/]+/.*\\.repository\\.ts$', pathNot: '^src/$1/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: false,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
