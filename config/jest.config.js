const rootDir = new URL('..', import.meta.url).pathname;

const transform = {
  '^.+\\.ts$': [
    '@swc/jest',
    {
      jsc: {
        target: 'es2022',
        parser: { syntax: 'typescript', decorators: true },
        transform: { legacyDecorator: true, decoratorMetadata: true },
        keepClassNames: true,
      },
      module: { type: 'es6' },
    },
  ],
};

const project = (displayName, testMatch) => ({
  displayName,
  rootDir,
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform,
  testMatch,
  // Nest 12 is ES modules, the throttler CommonJS: loading Nest first keeps Node from meeting a cycle of both.
  setupFiles: ['<rootDir>/test/support/load-nest.ts'],
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
});

export default {
  rootDir,
  globalSetup: '<rootDir>/config/jest-setup.js',
  globalTeardown: '<rootDir>/config/jest-teardown.js',
  testTimeout: 120_000,
  maxWorkers: 2,
  // Each file loads the modules anew, PGlite's WebAssembly among them, and a worker keeps what it has loaded: at 2 GB it is three times as slow.
  workerIdleMemoryLimit: '1GB',
  projects: [
    project('unit', ['<rootDir>/src/**/*.spec.ts']),
    project('integration', ['<rootDir>/test/integration/**/*.spec.ts']),
    project('e2e', ['<rootDir>/test/e2e/**/*.spec.ts']),
  ],
};
